"""What a scheduler is going to do, against what it then does."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import pytest

torch = pytest.importorskip("torch")
lr = torch.optim.lr_scheduler
learning_rates = pytest.importorskip("scaleahead.schedule").learning_rates


def sequence(optimizer):
    parts = [lr.LinearLR(optimizer, 0.1, total_iters=10), lr.StepLR(optimizer, 20)]
    return lr.SequentialLR(optimizer, parts, milestones=[10])


MADE = {
    "lambda": lambda o: lr.LambdaLR(o, lambda step: min(1.0, step / 10)),
    "steps": lambda o: lr.MultiStepLR(o, [7, 40, 41]),
    "cosine": lambda o: lr.CosineAnnealingLR(o, 60),
    "one cycle": lambda o: lr.OneCycleLR(o, 0.5, total_steps=200),
    "sequence": sequence,
    "chain": lambda o: lr.ChainedScheduler([lr.ConstantLR(o, 0.5, 15), lr.ExponentialLR(o, 0.9)]),
}


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_a_copy_foretells_what_comes(kind):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    scheduler = MADE[kind](optimizer)
    done = {}

    def advance(first, last):
        for step in range(first, last):
            done[step] = optimizer.param_groups[0]["lr"]
            optimizer.step()
            scheduler.step()

    advance(1, 6)
    told = learning_rates(scheduler, 6, 65)
    assert optimizer.param_groups[0]["lr"] == told[6]
    advance(6, 66)
    assert len(told) <= 64
    assert {step: done[step] for step in told} == pytest.approx(told)
    assert {step for step in range(7, 66) if done[step] != done[step - 1]} == set(told) - {6}


def test_a_scheduler_of_epochs_moves_once_in_many_steps():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    assert learning_rates(lr.StepLR(optimizer, 1, 0.5), 101, 300, every=100) == {101: 1.0, 201: 0.5}


def test_a_long_curve_is_told_by_sixteen_points():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    assert len(learning_rates(lr.CosineAnnealingLR(optimizer, 1000), 1, 1000)) == 16


def test_what_hangs_on_a_metric_is_not_told():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    assert learning_rates(lr.ReduceLROnPlateau(optimizer), 1, 1000) == {}
    assert learning_rates(None, 1, 1000) == {}
