"""Edge: the policy files on disk, read again when they change, and the last good version of each."""

import asyncio
import inspect
import io
import os
import tempfile
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog
from ruamel.yaml import YAML
from watchfiles import awatch

from policies import config
from policies.base import Policy
from policies.config import Problem
from policies.kinds import Kinds, installed
from policies.types import Settings

BUILT_IN_NAME = "default"
BUILT_IN = f"""\
scaleahead: 1
policies:
  {BUILT_IN_NAME}:
    kind: cost_per_progress
    mode: {{default: recommend}}
"""
LOOK_AGAIN_SECONDS = 1.0

log = structlog.get_logger(__name__)

Heard = Callable[[Sequence[Problem]], Awaitable[None] | None]


class UnknownPolicy(KeyError):
    """No policy of that name is in the book."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name)
        self.name = name
        self._line = f"no policy is named {name!r} - known are {', '.join(known)}"

    def __str__(self) -> str:
        return self._line


@dataclass(frozen=True, slots=True)
class _File:
    """One file as last read: its bytes, its last good settings, and what is wrong with its present text."""

    content: bytes | None = None
    settings: tuple[Settings, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _Pages:
    """All of the book at one moment; replaced as a whole, so that a reader never sees half a reload."""

    files: Mapping[Path, _File] = field(default_factory=dict)
    policies: Mapping[str, tuple[Settings, Policy]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


class PolicyBook:
    """The policies by name. Safe to use from several threads.

    ``paths`` are files, or directories of ``*.yaml`` and ``*.yml``; none means the built-in policy only, which is there
    in any case unless a file defines one of its name. Reading happens at once; problems are kept, never raised.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path] = (), kinds: Kinds | None = None) -> None:
        given = (paths,) if isinstance(paths, str | Path) else tuple(paths)
        self._paths = tuple(Path(path) for path in given)
        self._kinds = installed() if kinds is None else kinds
        self._lock = threading.Lock()
        self._pages = _Pages()
        self.reload()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the files now; empty when all of them are in force as they stand."""
        return self._pages.problems

    def names(self) -> tuple[str, ...]:
        """List the policies by name."""
        return tuple(sorted(self._pages.policies))

    def settings(self) -> tuple[Settings, ...]:
        """List the settings in force, by name."""
        pages = self._pages
        return tuple(pages.policies[name][0] for name in sorted(pages.policies))

    def get(self, name: str) -> tuple[Settings, Policy]:
        """Find a policy and its settings. Raises ``UnknownPolicy``, a ``KeyError`` that reads as one line."""
        pages = self._pages
        try:
            return pages.policies[name]
        except KeyError:
            raise UnknownPolicy(name, sorted(pages.policies)) from None

    def make(self, settings: Settings) -> Policy:
        """Make the policy of some settings. Raises ``UnknownPolicy`` for a kind that is not installed or is broken."""
        try:
            return config.policy_of(settings.kind, self._kinds)
        except ValueError:
            raise UnknownPolicy(settings.kind, sorted(self._kinds)) from None

    def reload(self) -> list[Problem]:
        """Look at every file once and put what is good in force; give what is wrong. Cheap when nothing changed.

        A file with a problem keeps its last good version. A file that has gone from a directory takes its policies
        along; one that was named itself and cannot be read keeps them.
        """
        with self._lock:
            return self._reload()

    def _reload(self) -> list[Problem]:
        before = self._pages.files
        files = {path: self._look(path, before.get(path, _File())) for path in self._files()}
        if files != before or not self._pages.policies:
            self._pages = self._bind(files)
        return list(self._pages.problems)

    def put(self, name: str, yaml_text: str) -> list[Problem]:
        """Write one policy into its file, or give what is wrong and write nothing.

        ``yaml_text`` is the policy's own mapping, or a whole policy file that holds just this policy. Comments in the
        file outside this policy stay. The file is replaced in one step and flushed to disk before this returns.
        """
        wrong = self._check_one(name, yaml_text)
        if wrong:
            return wrong
        with self._lock:
            path = self._home(name)
            if path is None:
                message = "there is no policy file to keep it in - name one in the configuration"
                return [Problem(name, 1, 1, message)]
            try:
                present = path.read_text("utf-8") if path.exists() else ""
                _, problems = config.load(present, str(path), self._kinds) if present.strip() else ((), ())
                if not problems:
                    text = _spliced(present, name, yaml_text)
                    _, problems = config.load(text, str(path), self._kinds)
                if problems:
                    return list(problems)
                _replace(path, text)
            except OSError as error:
                return [Problem(str(path), 1, 1, f"it cannot be written - {error.strerror}")]
            return [problem for problem in self._reload() if problem.file == str(path)]

    def check(self, text: str, filename: str) -> tuple[tuple[Settings, ...], tuple[Problem, ...]]:
        """Check the text of a policy file against the installed kinds; nothing changes."""
        return config.load(text, filename, self._kinds)

    async def watch(self, on_change: Heard) -> None:
        """Keep the book as the files are, until cancelled; call ``on_change`` with the problems after every change.

        Looks when the system tells of a change and once a second in any case, which also catches swapped links and
        systems that tell nothing. Never raises for what the files hold.
        """
        while True:
            folders = sorted({str(folder) for path in self._paths if (folder := _folder(path)).is_dir()})
            try:
                await self._watch(folders, on_change)
            except (OSError, RuntimeError) as error:
                log.warning("watching the policy files failed, looking once a second", error=str(error))
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            await self._renew(on_change)

    async def _watch(self, folders: Sequence[str], on_change: Heard) -> None:
        if not folders:
            return
        told = awatch(
            *folders,
            debounce=100,
            step=50,
            recursive=False,
            rust_timeout=int(LOOK_AGAIN_SECONDS * 1000),
            yield_on_timeout=True,
            watch_filter=None,
        )
        async for _ in told:
            await self._renew(on_change)

    async def _renew(self, on_change: Heard) -> None:
        before = self._pages
        await asyncio.to_thread(self.reload)
        if self._pages is before:
            return
        for problem in self._pages.problems:
            log.warning("policy file refused, the last good version stays", problem=str(problem))
        answer = on_change(self._pages.problems)
        if inspect.isawaitable(answer):
            await answer

    def _files(self) -> list[Path]:
        found: list[Path] = []
        for path in self._paths:
            if path.is_dir():
                found += sorted(one for one in path.iterdir() if one.suffix in (".yaml", ".yml") and one.is_file())
            else:
                found.append(path)
        return list(dict.fromkeys(found))

    def _look(self, path: Path, before: _File) -> _File:
        """Read a file once; parse it only if its bytes are new."""
        try:
            with path.open("rb") as file:
                content = file.read(config.LARGEST_BYTES + 1)
        except OSError as error:
            problem = Problem(str(path), 1, 1, f"it cannot be read - {error.strerror}")
            return _File(None, before.settings, (problem,))
        if content == before.content:
            return before
        settings, problems = config.load(content, str(path), self._kinds)
        return _File(content, before.settings if problems else settings, problems)

    def _bind(self, files: Mapping[Path, _File]) -> _Pages:
        """Make the pages: every name once, the first file that has it wins and the others are a problem."""
        policies: dict[str, tuple[Settings, Policy]] = {}
        problems: list[Problem] = []
        for path, file in files.items():
            problems += file.problems
            for settings in file.settings:
                if settings.name in policies:
                    message = f"the policy {settings.name!r} stands in another file too - rename one of them"
                    problems.append(Problem(str(path), 1, 1, message))
                else:
                    policies[settings.name] = (settings, config.policy_of(settings.kind, self._kinds))
        if BUILT_IN_NAME not in policies:
            (settings,), _ = config.load(BUILT_IN, "built in", self._kinds)
            policies[BUILT_IN_NAME] = (settings, config.policy_of(settings.kind, self._kinds))
        return _Pages(MappingProxyType(dict(files)), MappingProxyType(policies), tuple(problems))

    def _check_one(self, name: str, yaml_text: str) -> list[Problem]:
        """Check the text that is put, with the lines and columns of that text."""
        try:
            root = config.parse(yaml_text)
        except config.Wrong as wrong:
            return [Problem(name, wrong.line, wrong.column, wrong.message)]
        if isinstance(root.value, dict) and "scaleahead" in root.value:
            settings, problems = config.load(yaml_text, name, self._kinds)
            if not problems and [one.name for one in settings] != [name]:
                return [Problem(name, root.line, root.column, f"it must hold the policy {name!r} and no other")]
            return list(problems)
        return list(config.check_policy(name, root, name, self._kinds))

    def _home(self, name: str) -> Path | None:
        """Find the file to write a policy to: where it stands, else in the directory, else the last file."""
        for path, file in self._pages.files.items():
            if any(settings.name == name for settings in file.settings):
                return path
        for path in self._paths:
            if path.is_dir():
                return path / f"{name}.yaml"
        return self._paths[-1] if self._paths else None


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _spliced(present: str, name: str, yaml_text: str) -> str:
    """Put a policy, already checked, into the text of its file; comments and order of the rest stay."""
    editor: Any = YAML(typ="rt")
    editor.preserve_quotes = True
    editor.width = 4096
    body = editor.load(yaml_text)
    if "scaleahead" in body:
        body = body["policies"][name]
    whole = (editor.load(present) if present.strip() else None) or {"scaleahead": 1, "policies": {}}
    whole["policies"][name] = body
    out = io.StringIO()
    editor.dump(whole, out)
    return out.getvalue()


def _replace(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one, whole, also after a loss of power."""
    real = path.resolve()
    handle, name = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.", suffix=".new")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(real.stat().st_mode & 0o777 if real.exists() else 0o644)
        Path(name).replace(real)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(real.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
