"""MLflow."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from facerep_jax.files import read_object, write
from facerep_jax.train.writers import FOLDER

BATCH = 100  # parameters of one request, at most
LONGEST = 500  # characters of a parameter's value, which all versions take


class MLflow:
    """A run of MLflow for each workdir: one that resumes goes on in the same, whose id is kept in the workdir.

    Args:
        tracking_uri: of the server or store; empty for MLFLOW_TRACKING_URI, and without that for the workdir's own
            store: `mlflow ui --backend-store-uri sqlite:///WORKDIR/mlflow.db`.
        experiment: that the run belongs to.
        name: of the run; empty for that of the workdir.
    """

    packages = ("mlflow",)

    def __init__(self, workdir: Path, tracking_uri: str = "", experiment: str = "facerep", name: str = ""):
        from mlflow import MlflowClient

        own = f"sqlite:///{workdir / 'mlflow.db'}"
        self._client = MlflowClient(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or own)
        kept = workdir / FOLDER / "mlflow.json"
        self._new = not kept.exists()
        if self._new:
            known = self._client.get_experiment_by_name(experiment)
            under = known.experiment_id if known else self._client.create_experiment(experiment)
            made = self._client.create_run(under, run_name=name or workdir.name)
            write(kept, json.dumps({"id": made.info.run_id}) + "\n")
        self._id = read_object(kept)["id"]
        self._client.update_run(self._id, status="RUNNING")

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Write the config as parameters, which cannot change: that of the first start stays."""
        from mlflow.entities import Param

        if self._new:
            params = [Param(name, str(value)[:LONGEST]) for name, value in flat(hparams)]
            for first in range(0, len(params), BATCH):
                self._client.log_batch(self._id, params=params[first : first + BATCH])

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in scalars.items()])

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self._client.set_terminated(self._id)


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, with their dotted names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
