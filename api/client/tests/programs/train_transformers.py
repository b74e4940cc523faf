"""A small language model under Hugging Face's Trainer. Argument: a folder, also for what came of it."""
# ruff: noqa: ANN001, ANN204 - shipped beside the client; these types say nothing a reader needs

import json
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

from api.client.tests.programs import reporting
from scaleahead.transformers import ScaleaheadCallback, last_checkpoint

STEPS = 160


class Counting(torch.utils.data.Dataset):
    """Rows of tokens that count up from a random start: something to learn."""

    def __len__(self):
        return 256

    def __getitem__(self, place):
        row = (torch.arange(16) + (place * 7919) % 61) % 61
        return {"input_ids": row, "labels": row}


def main(folder: str) -> None:
    set_seed(3)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=61, n_positions=16, n_embd=32, n_layer=2, n_head=2))
    arguments = TrainingArguments(
        folder,
        max_steps=STEPS,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        warmup_steps=20,
        logging_steps=5,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=3,
    )
    reporter = reporting.reporter("language-model")
    trainer = Trainer(model, arguments, train_dataset=Counting(), callbacks=[ScaleaheadCallback(reporter=reporter)])
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    model.eval()
    with torch.no_grad():
        loss = sum(float(model(**{k: v[None] for k, v in Counting()[place].items()}).loss) for place in range(64))
    first = json.loads(reporter.body(-1))["observations"][0]["step"]
    Path(folder, "result.json").write_text(json.dumps({"first": first, "loss": loss / 64, "errors": reporter.errors}))


if __name__ == "__main__":
    main(str(reporting.folder()))
