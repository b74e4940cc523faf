"""Two small nets over gloo, one under DistributedDataParallel and one under FSDP, as torchrun starts them on each node.

Environment: ``GROUP_DISK``, the disk that all nodes share. The first line of a restart names its world; each step is a
line. It says of itself that two nodes are too busy, until four have done some steps: then that four are idle.
"""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import json
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from scaleahead import Reporter
from scaleahead.place import find, note
from scaleahead.torch import watch

STEPS, BATCH = 90, 8
BUSY_FROM, STEPS_AT_FOUR = 6, 6
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class Pair(torch.nn.Module):
    """Both nets, trained on the same rows."""

    def __init__(self, data_parallel, sharded) -> None:
        super().__init__()
        self.data_parallel, self.sharded = data_parallel, sharded

    def forward(self, given):
        return self.data_parallel(given), self.sharded(given)


def net():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))


def batch_at(step):
    """Give the global batch of a step, the same whatever the world: rows and what is to be learned of them."""
    given = torch.randn(BATCH, 6, generator=torch.Generator().manual_seed(step))
    return given, given[:, :2].prod(1, keepdim=True)


def losses(pair, given, wanted):
    return [torch.nn.functional.mse_loss(said, wanted) for said in pair(given)]


def optimizer_of(pair):
    # Parameters of both kinds are among them, which no fused kernel takes.
    return torch.optim.AdamW(pair.parameters(), lr=3e-3, foreach=False)


def train_step(pair, optimizer, step, rank=0, world=1):
    """Make one step on this rank's rows: gradients are means over ranks, so equal parts give the whole batch's."""
    given, wanted = batch_at(step)
    optimizer.zero_grad()
    sum(losses(pair, given[rank::world], wanted[rank::world])).backward()
    optimizer.step()


def final_losses(pair):
    with torch.no_grad():
        return [float(loss) for loss in losses(pair, *batch_at(10**6))]


class Story:
    """What has happened so far, line by line on the shared disk; only rank 0 writes."""

    def __init__(self, folder, rank, world) -> None:
        self._path, self._rank, self.world = folder / "story.jsonl", rank, world
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self.at_four = sum(json.loads(line)["world"] == 4 for line in lines)

    def tell(self, step):
        self.at_four += self.world == 4
        if self._rank == 0:
            with self._path.open("a") as file:
                file.write(json.dumps({"step": step, "world": self.world}) + "\n")

    def busy(self, step):
        if self.at_four >= STEPS_AT_FOUR:
            return 0.3 if self.world == 4 else 0.75
        return 0.95 if self.world == 2 and step >= BUSY_FROM else 0.75


def main() -> None:
    folder = Path(os.environ["GROUP_DISK"])
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    pair = Pair(DistributedDataParallel(net()), fully_shard(net()))
    optimizer = optimizer_of(pair)
    place, done = find(folder), 0
    if place is not None:
        kept, done = torch.load(place.path), place.step
        set_state_dict(
            pair, optimizer, model_state_dict=kept["model"], optim_state_dict=kept["optimizer"], options=WHOLE
        )
    rate = float(os.environ["SCALEAHEAD_TIME_RATE"])
    story = Story(folder, rank, world)

    def save(step):
        model, states = get_state_dict(pair, optimizer, options=WHOLE)
        path = folder / f"step-{step}.pt"
        if rank == 0:
            torch.save({"model": model, "optimizer": states}, path)
            note(folder, step, path)
        return str(path)

    reporter = Reporter(
        total_steps=STEPS,
        clock=lambda: time.monotonic() * rate,
        usage=lambda: {"memory_gib": 4.0, "cpu_cores": 1.0, "gpu_util": story.busy(watched.step)},
        every_seconds=0,
    )
    with watch(pair, optimizer, reporter=reporter, save=save, first_step=done, agree_every=2) as watched:
        for step in range(done + 1, STEPS + 1):
            train_step(pair, optimizer, step, rank, world)
            story.tell(step)
            # While a move is on its way the steps are long, so that it comes amidst them.
            time.sleep(0.02 if story.busy(step) == 0.75 else 0.2 if step < STEPS / 3 else 1.0)
    said = final_losses(pair)
    if rank == 0:
        (folder / "result.json").write_text(json.dumps({"losses": said, "steps": STEPS, "errors": reporter.errors}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
