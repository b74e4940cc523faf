"""Pure decisions: what a learning-rate scheduler is going to do; PyTorch's are asked of a copy."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

MOST_STEPS = 200_000
MOST_EXACT = 64
SPREAD = 16


def learning_rates(scheduler: Any, first_step: int, total_steps: int, every: int = 1) -> dict[int, float]:
    """Give {from_step: learning rate} of the first parameter group from ``first_step`` to ``total_steps``.

    ``first_step`` is the next step to be reported; the scheduler moves once in ``every`` steps. At most 64 changes are
    given exactly; a curve that changes more often by 16 points evenly spread. Empty where the future hangs on a metric,
    or lies more than 200,000 moves ahead.
    """
    moves = (total_steps - first_step) // max(every, 1)
    if not hasattr(scheduler, "step") or hasattr(scheduler, "patience") or not 0 < moves <= MOST_STEPS:
        return {}
    return thinned(_played(scheduler, moves), first_step, every)


def thinned(rates: Sequence[float], first_step: int, every: int = 1) -> dict[int, float]:
    """Give {from_step: rate} of rates that each hold ``every`` steps: every change, or of very many 16 points."""
    changes = [0] + [at for at in range(1, len(rates)) if rates[at] != rates[at - 1]]
    if len(changes) > MOST_EXACT:
        changes = [len(rates) * place // SPREAD for place in range(SPREAD)]
    return {first_step + at * every: rates[at] for at in changes}


def _played(scheduler: Any, moves: int) -> list[float]:
    import torch  # delays torch: Keras may run on another backend

    groups = scheduler.optimizer.param_groups
    settings = [{name: value for name, value in group.items() if name != "params"} for group in groups]
    stand_in = torch.optim.SGD([{"params": [torch.zeros(1)]} for _ in groups], lr=0.0)
    for group, given in zip(stand_in.param_groups, copy.deepcopy(settings), strict=True):
        group.update(given)
    twin = _twin(scheduler, stand_in)
    rates = [_rate(stand_in)]
    with warnings.catch_warnings():
        # Of a copy that no optimizer stands behind, PyTorch says that the order of calls is wrong.
        warnings.simplefilter("ignore")
        for _ in range(moves):
            twin.step()
            rates.append(_rate(stand_in))
    return rates


def _rate(optimizer: Any) -> float:
    return float(optimizer.param_groups[0]["lr"])


def _twin(scheduler: Any, optimizer: Any) -> Any:
    """Copy a scheduler, and those it is made of, onto another optimizer."""
    # accelerate wraps the scheduler it steps
    scheduler = getattr(scheduler, "scheduler", scheduler)
    twin = object.__new__(type(scheduler))
    for name, value in vars(scheduler).items():
        if name == "optimizer":
            twin.optimizer = optimizer
        elif name == "_schedulers":
            twin._schedulers = [_twin(one, optimizer) for one in value]
        else:
            vars(twin)[name] = copy.deepcopy(value)
    return twin
