"""Several ranks: one usage of all, and torchrun's restart is another run."""
# ruff: noqa: ANN001, ANN003 - shipped beside the client; these types say nothing a reader needs

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scaleahead import Reporter
from scaleahead.peers import STALE_SECONDS, Peers


def word(rank, node, **usage):
    return {"rank": rank, "node": node, "usage": usage}


def test_the_fullest_node_is_what_must_fit():
    now = [0.0]
    peers = Peers(clock=lambda: now[0])
    own = {"memory_gib": 10.0, "network_mbps": 5.0, "gpu_util": 0.2}
    assert peers.joined(own) == own
    peers.hear(word(1, 0, memory_gib=11.0, network_mbps=5.0, gpu_util=0.4))
    peers.hear(word(2, 1, memory_gib=30.0, network_mbps=9.0, gpu_util=0.9, other=7.0))
    assert peers.joined(own) == {"memory_gib": 30.0, "network_mbps": 9.0, "gpu_util": pytest.approx(0.5)}
    now[0] = STALE_SECONDS / 2
    peers.hear(word(1, 0, memory_gib=11.0))
    now[0] = STALE_SECONDS + 1
    assert peers.joined(own)["memory_gib"] == 21.0
    assert peers.joined({}) == {}


@pytest.mark.parametrize(
    "said", [None, {}, word(0, 0), word(1, -1), word("1", 0), word(True, 0), word(10**9, 0), {"rank": 1, "node": 0}]
)
def test_what_cannot_be_is_refused(said):
    with pytest.raises(ValueError, match="must be"):
        Peers().hear(said)


def test_a_rank_tells_rank_0_and_hands_a_notice_on(monkeypatch):
    from api.client.tests.test_notice import Metadata, wait

    metadata = Metadata()
    monkeypatch.setattr("scaleahead.notice.EC2_URL", metadata.url)
    monkeypatch.setattr("scaleahead.peers.TELL_SECONDS", 0.01)
    with Reporter("job", hook_port=0, token="secret", usage=lambda: {"memory_gib": 1.0}, every_seconds=0) as first:
        for name, value in {"RANK": "1", "LOCAL_RANK": "0", "GROUP_RANK": "1", "SCALEAHEAD_SPOT": "aws"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        port = int(first.url.rpartition(":")[2])
        second = Reporter("job", hook_port=port, token="secret", usage=lambda: {"memory_gib": 3.0})
        assert not second.active
        wait(lambda: first.peers.joined({"memory_gib": 1.0}) == {"memory_gib": 3.0})
        assert first.checkpoint_due() is None
        metadata.reclaim()
        wait(lambda: first.checkpoint_due() is not None)
        assert "EC2 says terminate" in first.checkpoint_due().reason
        second.close()
    metadata.close()


@pytest.mark.slow
def test_torchruns_restart_is_another_run(tmp_path):
    pytest.importorskip("torch")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(__file__).parent / "programs" / "train_ranks.py"
    options = ["--nnodes=1", "--nproc-per-node=2", "--max-restarts=1", "--monitor-interval=0.1"]
    options += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, program, tmp_path]
    environ = {**os.environ, "SCALEAHEAD_HOOK_PORT": str(port), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = (json.loads((tmp_path / name).read_text()) for name in "01")
    assert before["run"] != after["run"]
    assert before["job"] == after["job"] == "ranks"
    assert after["observations"][0]["step"] == 1
    assert after["observations"][-1]["usage"] == {"memory_gib": 21.0, "cpu_cores": 2.0}
