"""What a process uses, measured on this very process."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import os
import subprocess
import sys

import pytest

from scaleahead.usage import Sampler, children_bytes, memory_bytes

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
MIB = 2**20


def test_a_peak_between_two_looks_is_not_lost():
    sampler = Sampler()
    before = sampler.take()["memory_gib"]
    held = bytearray(os.urandom(1)) * (300 * MIB)
    held[::4096] = b"x" * len(held[::4096])
    del held
    now, _ = memory_bytes()
    assert sampler.take()["memory_gib"] - now / 2**30 > 0.2
    assert sampler.take()["memory_gib"] < before + 0.2


def test_memory_can_be_rescaled():
    now, _ = memory_bytes()
    assert Sampler(bytes_per_gib=MIB).take()["memory_gib"] >= now / MIB * 0.5


def test_without_a_new_look_nothing_is_said():
    sampler = Sampler()
    assert sampler.take(exact=False) == {}
    sampler._look()
    assert sampler.take(exact=False)["memory_gib"] > 0


def test_rates_come_with_the_second_look_and_stay_known():
    sampler = Sampler()
    sampler._looks = 0
    sampler._look()
    assert "cpu_cores" not in sampler.take()
    sum(range(10**6))
    sampler._looks = 0
    sampler._look()
    first = sampler.take()
    assert 0 < first["cpu_cores"] <= os.cpu_count() + 1
    assert sampler.take()["cpu_cores"] == first["cpu_cores"]


def test_children_count():
    code = "held = b'x' * (64 << 20); print('ready', flush=True); input()"
    before = children_bytes()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert children_bytes() - before > 60 * MIB
        child.communicate(b"\n")


class Cuda:
    """The part of ``torch.cuda`` that is asked."""

    peak, now = 8 * 2**30, 2 * 2**30

    def is_initialized(self):
        return True

    def device_count(self):
        return 1

    def max_memory_allocated(self, device):
        return self.peak

    def memory_allocated(self, device):
        return self.now


def test_the_allocators_peak_is_reported_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", type("Torch", (), {"cuda": Cuda()}))
    sampler = Sampler()
    assert sampler.take()["gpu_memory_gib"] == 8
    assert sampler.take()["gpu_memory_gib"] == 2


def test_no_gpu_is_unknown_not_zero(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    usage = Sampler().take()
    assert "gpu_memory_gib" not in usage
    assert "gpu_util" not in usage
