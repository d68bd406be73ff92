"""Weights & Biases."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facerep_jax.files import read_object, write
from facerep_jax.train.writers import FOLDER


class WandB:
    """A run of Weights & Biases for each workdir: one that resumes goes on in the same.

    Its id is kept in the workdir. Steps of a resume come again, which W&B's own counter refuses: `step` is a metric
    that the others are drawn against. A key is taken from where `wandb login` leaves it, or from WANDB_API_KEY.

    Args:
        project, entity: where the run is listed; empty for the user's own entity.
        name: of the run; empty for that of the workdir.
        mode: `online`, or `offline`: then `wandb sync WORKDIR/wandb/offline-run-*` sends what was written.
    """

    packages = ("wandb",)

    def __init__(self, workdir: Path, project: str = "facerep", entity: str = "", name: str = "", mode: str = "online"):
        import wandb

        kept = workdir / FOLDER / "wandb.json"
        if not kept.exists():
            write(kept, json.dumps({"id": secrets.token_hex(4)}) + "\n")
        self._run = wandb.init(
            project=project,
            entity=entity or None,
            name=name or workdir.name,
            id=read_object(kept)["id"],
            resume="allow",
            dir=str(workdir),
            mode=mode,
            settings=wandb.Settings(console="off", silent=True, init_timeout=60),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        self._run.config.update(dict(hparams), allow_val_change=True)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._run.log({**scalars, "step": step})

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self._run.finish()
