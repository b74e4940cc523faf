"""Pure decisions: what another tool's name is called in a history file, told by the user or guessed and said."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from daemon.backtest.history import FIGURES, KINDS, TEXTS
from daemon.forecast.drivers import known_role

TIMES = ("timestamp",)
"""Columns that only importing knows: a moment, in place of ``elapsed_s`` and ``started_at``."""

_COLUMNS = {
    "job": "job run run_id run_name name experiment_run trial trial_id",
    "group": "group project experiment experiment_name workload task",
    "owner": "owner user user_id username team",
    "started_at": "started_at start_time created_at",
    "step": "step global_step iteration iter it steps train_step trainer_global_step current_step",
    "elapsed_s": "elapsed_s elapsed elapsed_seconds relative_time runtime train_runtime seconds wall_seconds",
    "timestamp": "timestamp wall_time time datetime date created ts",
    "total_steps": "total_steps max_steps num_steps num_training_steps",
    "throughput": "throughput samples_per_second tokens_per_second train_samples_per_second",
    "usage.cpu_cores": "cpu_cores",
    "usage.gpu_util": "gpu_util gpu_utilization gpu_utilisation",
    "usage.memory_gib": "memory_gib ram_gib rss_gib",
    "usage.gpu_memory_gib": "gpu_memory_gib gpu_mem_gib vram_gib",
    "usage.network_mbps": "network_mbps",
    "usage.disk_mbps": "disk_mbps",
}
_BY_NAME = {name: column for column, listed in _COLUMNS.items() for name in listed.split()}
_SCALED = {
    "system_memory_usage_megabytes": ("usage.memory_gib", 1e6 / 2**30),
    "gpu_0_memory_usage_megabytes": ("usage.gpu_memory_gib", 1e6 / 2**30),
    "gpu_0_utilization_percentage": ("usage.gpu_util", 0.01),
    "gpu_0_gpu": ("usage.gpu_util", 0.01),
    "gpu_0_memoryallocatedbytes": ("usage.gpu_memory_gib", 1.0 / 2**30),
    "proc_memory_rssmb": ("usage.memory_gib", 2**20 / 2**30),
    "max_memory_allocated": ("usage.gpu_memory_gib", 1.0 / 2**30),
    "process_resident_memory_bytes": ("usage.memory_gib", 1.0 / 2**30),
    "dcgm_fi_dev_gpu_util": ("usage.gpu_util", 0.01),
    "dcgm_fi_dev_fb_used": ("usage.gpu_memory_gib", 2**20 / 2**30),
}
"""Names of which the unit is known: MLflow's and Weights & Biases' system metrics, torch's, Prometheus exporters'."""
_SETTINGS = {"lr", "learning_rate", "momentum", "weight_decay", "dropout", "warmup_steps", "seed", "width", "layers"}
_SETTING_FOLDERS = {"hp", "hparams", "hyperparameters", "hyperparams", "params", "config", "args"}
_LEFT_OUT = {"epoch", "index", "unnamed_0", ""}
_RULE = re.compile(r"(?P<name>.+?)=(?P<column>[A-Za-z_][\w.@:/-]*?)(?:(?P<sign>[*/])(?P<factor>[0-9.eE+-]+))?")


class MapError(ValueError):
    """A rule of ``--map`` cannot be used. ``str()`` is one line."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a name becomes: a column of the history file and the factor on its values. ``guessed``: nobody said so."""

    column: str
    factor: float = 1.0
    guessed: bool = True


def rules(text: str | None) -> dict[str, Named]:
    """Read ``loss=metric.loss,mem_mb=usage.memory_gib/1024``. Raises ``MapError``."""
    found: dict[str, Named] = {}
    for part in (one.strip() for one in (text or "").split(",")):
        if not part:
            continue
        match = _RULE.fullmatch(part)
        if match is None:
            raise MapError(f"--map {part!r} is no rule - write NAME=COLUMN, such as loss=metric.loss")
        column = match["column"]
        if column not in (*TEXTS, *FIGURES, *TIMES) and not column.startswith(KINDS):
            raise MapError(
                f"--map {part!r}: {column} is no column of a history file - begin it with hp., metric. or usage."
            )
        factor = _factor(part, match["factor"])
        found[match["name"]] = Named(column, 1.0 / factor if match["sign"] == "/" else factor, False)
    return found


def _factor(part: str, text: str | None) -> float:
    try:
        factor = float(text or 1.0)
    except ValueError:
        factor = 0.0
    if not 0.0 < factor < 1e18:
        raise MapError(f"--map {part!r}: {text} is no factor - write a positive number, such as /1024")
    return factor


def name(raw: str, given: Mapping[str, Named]) -> Named | None:
    """Say what a name becomes; ``None``: it says nothing of use."""
    if raw in given:
        return given[raw]
    if raw in (*TEXTS, *FIGURES) or raw.startswith(KINDS):
        return Named(raw)
    folders, _, last = raw.replace("\\", "/").rpartition("/")
    plain, whole = _plain(last), _plain(raw)
    for one in (whole, whole.removeprefix("system_"), plain):
        if one in _SCALED:
            return Named(*_SCALED[one])
    if whole in _BY_NAME or plain in _BY_NAME:
        return Named(_BY_NAME.get(whole) or _BY_NAME[plain])
    if plain in _LEFT_OUT:
        return None
    if folders.lower() in _SETTING_FOLDERS or plain in _SETTINGS or known_role(plain):
        return Named(f"hp.{plain}")
    return Named(f"metric.{whole}")


def names(raw: Iterable[str], given: Mapping[str, Named], wordy: Iterable[str] | None = None) -> dict[str, Named]:
    """Name all columns. A column is taken by the first name, told names before guessed. Raises ``MapError``.

    ``wordy`` names hold words: of these only the names that a history file has for words are taken. ``None``: these
    are series of figures, of which none is a word or a moment.
    """
    raw, worded = list(raw), set(wordy or ())
    missing = next((one for one in given if one not in raw), None)
    if missing is not None:
        raise MapError(f"--map names {missing!r}, which is not there - there are: {', '.join(sorted(raw)[:20])}")
    found: dict[str, Named] = {}
    taken: set[str] = set()
    for one in sorted(raw, key=lambda each: each not in given):
        named = name(one, given)
        if named is not None and named.guessed and one in worded and named.column not in (*TEXTS, *TIMES):
            named = None
        figure = wordy is None and named is not None and named.column in (*TEXTS, *TIMES)
        if named is not None and named.guessed and (figure or named.column in taken):
            named = Named(f"metric.{_plain(one)}")
        if named is None or (named.guessed and named.column in taken):
            continue
        if named.column in taken:
            raise MapError(f"--map gives {named.column} twice - leave one of them out")
        taken.add(named.column)
        found[one] = named
    return found


def said(found: Mapping[str, Named], raw: Iterable[str]) -> list[str]:
    """Say what was guessed and what was left out, a line each."""
    lines = [
        f"{one} -> {named.column}" + (f" x {named.factor:.6g}" if named.factor != 1.0 else "")
        for one, named in found.items()
        if named.guessed and one != named.column
    ]
    left = sorted(set(raw) - set(found))
    return lines + ([f"left out: {', '.join(left)}"] if left else [])


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
