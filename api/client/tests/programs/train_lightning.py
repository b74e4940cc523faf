"""A small net under Lightning. Argument: a folder, also for what came of it. ``ASK_AT``: a step to save at."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import json
import logging
import os
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything

from api.client.tests.programs import reporting
from scaleahead import Request
from scaleahead.lightning import ScaleaheadCallback, last_checkpoint
from scaleahead.loader import Resumable


class Net(LightningModule):
    def __init__(self, reporter) -> None:
        super().__init__()
        self.reporter = reporter
        parts = torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(64, 1)
        self.net = torch.nn.Sequential(*parts)

    def training_step(self, batch, batch_idx):
        given, wanted = batch
        if self.global_step == int(os.environ.get("ASK_AT", "0")) - 1:
            self.reporter.prepare(Request("d1"))
        return torch.nn.functional.mse_loss(self.net(given), wanted)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main(folder: str) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    seed_everything(3, verbose=False)
    given = torch.randn(320, 20)
    data = torch.utils.data.TensorDataset(given, given[:, :3].prod(1, keepdim=True) + given[:, 4:5])
    loader = Resumable(torch.utils.data.DataLoader(data, batch_size=8, shuffle=True))
    check = torch.utils.data.DataLoader(data, batch_size=64)
    reporter = reporting.reporter("net")
    net = Net(reporter)
    trainer = Trainer(
        max_epochs=15,
        accumulate_grad_batches=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ScaleaheadCallback(folder, reporter=reporter)],
    )
    trainer.fit(net, loader, check, ckpt_path=last_checkpoint(folder))
    net.eval()
    with torch.no_grad():
        loss = float(torch.nn.functional.mse_loss(net.net(given), data.tensors[1]))
    first = json.loads(reporter.body(-1))["observations"][0]["step"]
    Path(folder, "result.json").write_text(json.dumps({"first": first, "loss": loss, "errors": reporter.errors}))


if __name__ == "__main__":
    main(str(reporting.folder()))
