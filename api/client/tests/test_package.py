"""The distribution: nothing but the standard library."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path


def test_it_requires_nothing():
    assert not [r for r in metadata.requires("scaleahead") or [] if "extra ==" not in r]


def test_importing_it_brings_no_foreign_module_and_starts_nothing():
    code = (
        "import sys, threading; before = set(sys.modules); import scaleahead; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - sys.stdlib_module_names - {'scaleahead'}), threading.active_count())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[] 1"


def test_a_whole_run_brings_no_foreign_module():
    code = (
        "import sys; before = set(sys.modules); from scaleahead import Reporter\n"
        "with Reporter('j', hook_port=0) as r: r.step(1, {'b': 1}); r.body(0)\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names - {'scaleahead', 'psutil', 'pynvml'}))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_its_only_command_is_scaleahead_run_and_needs_nothing_else():
    said = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert said["project"]["scripts"] == {"scaleahead-run": "scaleahead.run:main"}
    code = (
        "import sys; before = set(sys.modules); import scaleahead.run, scaleahead.peers, scaleahead.place\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names - {'scaleahead'}))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[]"
