"""The PyTorch adapter: one line, the loop unchanged."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import json

import pytest

from scaleahead import Reporter, Request

torch = pytest.importorskip("torch")
watch = pytest.importorskip("scaleahead.torch").watch


def body(watched):
    return json.loads(watched.reporter.body(0))


def report():
    return Reporter("job", usage=dict, every_seconds=0)


def train(model, optimizer, batches, watched=None):
    for batch in batches:
        optimizer.zero_grad()
        loss = model(batch).float().pow(2).mean()
        loss.backward()
        if watched is not None:
            watched.loss(loss)
        optimizer.step()


def test_one_line_reads_learning_rate_and_batch_size():
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with watch(model, optimizer, reporter=report()) as watched:
        train(model, optimizer, [torch.ones(4, 3), torch.ones(8, 3)], watched)
        optimizer.param_groups[0]["lr"] = 0.25
        train(model, optimizer, [torch.ones(8, 3)])
    seen = body(watched)["observations"]
    assert [(o["step"], o["hyperparameters"]) for o in seen] == [
        (1, {"batch_size": 4.0, "lr": 0.5}),
        (2, {"batch_size": 8.0, "lr": 0.5}),
        (3, {"batch_size": 8.0, "lr": 0.25}),
    ]
    assert seen[0]["metrics"]["loss"] > 0
    assert body(watched)["state"] == "done"


def test_tokens_give_a_sequence_length_and_evaluation_is_not_a_step():
    model = torch.nn.Embedding(10, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    with watch(model, reporter=report()) as watched:
        train(model, optimizer, [torch.zeros(4, 16, dtype=torch.long)])
        model.eval()
        model(torch.zeros(64, 128, dtype=torch.long))
        model.train()
        train(model, optimizer, [torch.zeros(4, 32, dtype=torch.long)])
    assert [o["hyperparameters"]["seq_len"] for o in body(watched)["observations"]] == [16, 32]
    assert {o["hyperparameters"]["batch_size"] for o in body(watched)["observations"]} == {4}


def test_accumulated_batches_are_told_apart():
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with watch(model, optimizer, reporter=report()) as watched:
        for _ in range(4):
            model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    assert body(watched)["observations"][0]["hyperparameters"] == {
        "batch_size": 2.0,
        "gradient_accumulation": 4.0,
        "lr": 0.5,
    }


def test_without_a_model_the_loader_says():
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(6, 1)), batch_size=3)
    other = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.9)
    with watch(loader=loader, reporter=report()) as watched:
        optimizer.step()
        other.step()
    assert [o["hyperparameters"] for o in body(watched)["observations"]] == [{"batch_size": 3.0, "lr": 0.5}]


def test_a_schedule_that_a_part_makes_known_is_declared():
    class Curriculum(torch.utils.data.SequentialSampler):
        schedule = {0: {"batch_size": 8}, 100: {"batch_size": 16, "seq_len": 64}}  # noqa: RUF012

    data = torch.utils.data.TensorDataset(torch.ones(6, 1))
    loader = torch.utils.data.DataLoader(data, sampler=Curriculum(data))
    with watch(loader=loader, reporter=report()) as watched:
        declared = body(watched)["declared"]
    assert [d["from_step"] for d in declared] == [0, 100]


def test_a_checkpoint_is_saved_between_steps():
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    saved = []
    made = report()
    with watch(model, optimizer, reporter=made, save=saved.append, first_step=10) as watched:
        train(model, optimizer, [torch.ones(4, 3)])
        made.prepare(Request("d", deadline=0.0))
        made.handshake._grace_seconds = 0.0
        train(model, optimizer, [torch.ones(4, 3)])
    assert saved == [11]
    assert body(watched)["checkpoint"]["step"] == 11


def test_a_hook_that_fails_never_reaches_training():
    class Odd(torch.nn.Linear):
        def forward(self, given):
            return super().forward(given["x"] if isinstance(given, dict) else given)

    model = Odd(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    made = report()
    with watch(model, optimizer, reporter=made):
        made.step = None
        model({"x": torch.ones(2, 3)}).sum().backward()
        optimizer.step()
    assert made.errors == 1


def test_close_lets_go():
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    watched = watch(model, optimizer, reporter=report())
    watched.close()
    train(model, optimizer, [torch.ones(4, 3)])
    assert watched.step == 0
