"""One of two ranks, of which rank 0 is asked to save. Arguments: the folder that both share, the rank, who can save."""

import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from scaleahead import Reporter, Request
from scaleahead.torch import watch

STEPS, SLOW_SECONDS = 12, 0.3


def main(folder: Path, rank: int, savers: int) -> None:
    os.environ["RANK"] = str(rank)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    told = []

    def save(step: int) -> str:
        if rank == 1 and len(told) == 1:
            raise OSError("the disk is full")
        if rank == 1:
            time.sleep(SLOW_SECONDS)  # the slower rank: what is acknowledged must wait for it
        told.append(step)
        (folder / f"{step}-{rank}").touch()
        return str(folder)

    reporter = Reporter("pair", usage=dict, every_seconds=0, grace_seconds=0)
    seen = []

    def acknowledged(id: str, step: int, uri: str | None, seconds: float | None) -> str:
        seen.append([step, sorted(path.name for path in folder.glob(f"{step}-*"))])
        return really(id, step, uri, seconds)

    really = reporter.handshake.saved
    reporter.handshake.saved = acknowledged  # type: ignore[method-assign]
    with watch(model, optimizer, reporter=reporter, save=save if rank < savers else None, agree_every=4) as watched:
        for step in range(1, STEPS + 1):
            if step in (2, 7) and rank == 0:
                reporter.prepare(Request(f"d{step}", deadline=0.0))
            model(torch.ones(3, 2)).sum().backward()
            for weight in model.parameters():
                assert weight.grad is not None
                dist.all_reduce(weight.grad)
            optimizer.step()
    sizes = {o["hyperparameters"]["batch_size"] for o in json.loads(reporter.body(0))["observations"]}
    said = {"told": told, "acknowledged": seen, "sizes": sorted(sizes), "steps": watched.step}
    (folder / f"rank-{rank}.json").write_text(json.dumps({**said, "failures": reporter.handshake.failures}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
