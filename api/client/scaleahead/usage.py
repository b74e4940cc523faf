"""Edge: what this process uses, from ``/proc`` (else psutil), NVML and torch's allocator, each only where present."""

import contextlib
import glob
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

GIB = 2**30
SLOW_EVERY = 10
"""Children, disks, networks and utilisation are read at every tenth look only."""


class Sampler:
    """Looks ten times a second and remembers the peaks, so that what happens between two reports is not lost.

    Peak memory is exact where the kernel's high-water mark has risen since the last report, else the highest look.
    ``bytes_per_gib`` rescales memory (a demonstration lets few real bytes stand for a GiB).
    """

    def __init__(self, *, bytes_per_gib: float = GIB, every_seconds: float = 0.1) -> None:
        self._bytes_per_gib = bytes_per_gib
        self._every_seconds = every_seconds
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._fresh = False
        self._peaks: dict[str, float] = {}
        self._sums: dict[str, tuple[float, int]] = {}
        self._rates: dict[str, float] = {}
        self._children_bytes = 0
        self._high_water = 0
        self._gpu_high_water: dict[int, float] = {}
        self._counters: dict[str, tuple[float, float]] = {}
        self._nvml: Any = None
        self._looks = 0

    def start(self) -> None:
        """Begin to look, in a thread that ends with the process."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="scaleahead-usage", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._closing.set()

    def take(self, exact: bool = True) -> dict[str, float]:
        """Give the usage since the last call: memory by its peak, the rest by its mean. Unknown names are left out.

        With ``exact`` memory is read now; without it, nothing is read and nothing may have been seen since.
        """
        if exact:
            self._look_at_memory()
        elif not self._fresh:
            return {}
        with self._lock:
            usage = {name: value / self._bytes_per_gib for name, value in self._peaks.items()}
            for name, (total, count) in self._sums.items():
                self._rates[name] = total / count
            self._peaks, self._sums, self._fresh = {}, {}, False
            return {**self._rates, **usage}

    def _watch(self) -> None:
        # Whatever a strange host answers must not end the looking.
        while not self._closing.wait(self._every_seconds):
            with contextlib.suppress(Exception):
                self._look()

    def _look(self) -> None:
        if self._looks % SLOW_EVERY == 0:
            with contextlib.suppress(OSError, ValueError):
                self._children_bytes = children_bytes()
            self._look_at_rates()
        self._looks += 1
        self._look_at_memory()

    def _look_at_memory(self) -> None:
        now_bytes, high_water = memory_bytes()
        gpu = self._gpu_bytes()
        with self._lock:
            if high_water > self._high_water:
                self._high_water = high_water
                now_bytes = max(now_bytes, high_water)
            if now_bytes:
                self._peak("memory_gib", now_bytes + self._children_bytes)
            if gpu is not None:
                self._peak("gpu_memory_gib", gpu)
            self._fresh = True

    def _peak(self, name: str, value: float) -> None:
        self._peaks[name] = max(value, self._peaks.get(name, 0.0))

    def _gpu_bytes(self) -> float | None:
        """Peak bytes allocated on the fullest GPU. The user's own peak statistics are read, never reset."""
        torch = sys.modules.get("torch")
        cuda = getattr(torch, "cuda", None)
        if cuda is None or not cuda.is_initialized():
            return None
        fullest = 0.0
        for device in range(cuda.device_count()):
            peak, now = cuda.max_memory_allocated(device), cuda.memory_allocated(device)
            if peak != self._gpu_high_water.get(device):
                self._gpu_high_water[device] = peak
                now = max(now, peak)
            fullest = max(fullest, now)
        return fullest

    def _look_at_rates(self) -> None:
        now = time.monotonic()
        found = {"cpu_cores": self._rate("cpu", sum(os.times()[:4]), now)}
        with contextlib.suppress(OSError, ValueError):
            found["disk_mbps"] = self._rate("disk", disk_bytes() / 1e6, now)
        with contextlib.suppress(OSError, ValueError):
            found["network_mbps"] = self._rate("network", network_bytes() * 8 / 1e6, now)
        found["gpu_util"] = self._gpu_util()
        with self._lock:
            for name, value in found.items():
                if value is not None:
                    total, count = self._sums.get(name, (0.0, 0))
                    self._sums[name] = total + value, count + 1

    def _rate(self, name: str, counter: float, now: float) -> float | None:
        before = self._counters.get(name)
        self._counters[name] = counter, now
        if before is None or now <= before[1] or counter < before[0]:
            return None
        return (counter - before[0]) / (now - before[1])

    def _gpu_util(self) -> float | None:
        if self._nvml is None:
            self._nvml = _open_nvml()
        if not self._nvml:
            return None
        shares = [self._nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100 for device in _gpus(self._nvml)]
        return sum(shares) / len(shares) if shares else None


def memory_bytes() -> tuple[int, int]:
    """Give (resident bytes now, the highest there ever were); 0 where the host does not say."""
    now, peak = 0, 0
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmHWM:"):
                    peak = int(line.split()[1]) * 1024
                elif line.startswith(b"VmRSS:"):
                    return int(line.split()[1]) * 1024, peak
    except OSError:
        psutil = sys.modules.get("psutil") or _import("psutil")
        if psutil:
            now = psutil.Process().memory_info().rss
    return now, peak


def descendants() -> list[int]:
    """List the processes below this one, at most 256."""
    found: list[int] = []
    todo = [os.getpid()]
    while todo and len(found) < 256:
        for listing in glob.glob(f"/proc/{todo.pop()}/task/*/children"):
            with contextlib.suppress(OSError):
                young = [int(pid) for pid in Path(listing).read_text().split()]
                found += young
                todo += young
    return found[:256]


def children_bytes() -> int:
    """Sum what the children of this process (loading workers) hold for themselves, shared pages left out."""
    total = 0
    for pid in descendants():
        with contextlib.suppress(OSError):
            _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
            total += max(0, resident - shared) * os.sysconf("SC_PAGE_SIZE")
    return total


def children_cpu_seconds() -> float:
    """Sum the processor seconds of the processes below this one that still run."""
    ticks = 0
    for pid in descendants():
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def disk_bytes() -> int:
    """Count the bytes this process has read from and written to disks."""
    with open("/proc/self/io") as file:
        counts = dict(line.split(":") for line in file)
    return int(counts["read_bytes"]) + int(counts["write_bytes"])


def network_bytes() -> int:
    """Count the bytes that came and went over this host's (or container's) interfaces, loopback left out."""
    total = 0
    with open("/proc/self/net/dev") as file:
        for line in list(file)[2:]:
            name, _, counts = line.partition(":")
            if name.strip() != "lo":
                fields = counts.split()
                total += int(fields[0]) + int(fields[8])
    return total


def _open_nvml() -> Any:
    """Give NVML, or False where it is not installed or finds no driver."""
    nvml = _import("pynvml")
    try:
        if nvml:
            nvml.nvmlInit()
    except nvml.NVMLError:
        return False
    return nvml or False


def _gpus(nvml: Any) -> list[Any]:
    """List the GPUs this process may see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    every = range(nvml.nvmlDeviceGetCount())
    names = [name.strip() for name in visible.split(",")] if visible is not None else []
    chosen = [int(name) for name in names if name.isdigit() and int(name) in every] if visible is not None else every
    return [nvml.nvmlDeviceGetHandleByIndex(number) for number in chosen]


def _import(name: str) -> Any:
    """Import an optional module; ``None`` if it is missing or broken."""
    try:
        return __import__(name)
    except Exception:  # an optional module of the host's may fail in any way; training must not
        return None
