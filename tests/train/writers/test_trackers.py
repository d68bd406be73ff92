"""The writers of W&B and MLflow against the real packages, without a network, where they are installed; a whole run.

pip install wandb mlflow
"""

import importlib.util
import json
import re
import signal
import struct
import subprocess
import sys

import pytest

from facerep_jax.config import spec
from facerep_jax.train.writer import lines_of
from facerep_jax.train.writers import feed, specs_of
from facerep_jax.train.writers.feed import Feeds
from facerep_jax.train.writers.mlflow import MLflow, flat
from facerep_jax.train.writers.wandb import WandB
from tests.processes import TINY, facerep, finish, here, metrics, wait_for

CONFIG = {"seed": 7, "data": {"dataset": "manifest/faces", "weights": []}}
RECORDER = "tests.train.writers.plugins:Recorder"


def written(monkeypatch, workdir, described, *steps):
    monkeypatch.setattr(feed, "CLOSE_SECONDS", 120.0)  # MLflow takes its time to make a store
    feeds = Feeds(specs_of((described,)), workdir, CONFIG)
    for step in steps:
        feeds.put(step, {"loss": 1.0 / step, "seconds/step": 0.5, "norm": float("nan")})
    feeds.close()
    assert feeds.counts == {"writers_lost": 0}


def test_a_config_of_nested_mappings_becomes_dotted_names():
    assert dict(flat(CONFIG)) == {"seed": 7, "data.dataset": "manifest/faces", "data.weights": []}


@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_package_that_is_missing_ends_a_run_before_it_begins_with_what_to_type(tmp_path, name, package):
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    status, output = here("pretrain", tmp_path / "run", f"--config={TINY}", f"--config.writers=('{name}',)")
    assert status == 2
    assert re.fullmatch(rf"facerep pretrain: config.writers: \S+ needs a package: pip install {package}\n", output)
    assert not (tmp_path / "run").exists()


def test_neither_package_is_imported_unless_asked_for():
    code = "import sys; from facerep_jax import pretrain; print({'wandb', 'mlflow', 'clu'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_run_writes_to_a_plugin_and_may_go_on_without_it(tmp_path):
    status, output = here("pretrain", tmp_path, f"--config={TINY}", f"--config.writers=('{RECORDER}',)")
    assert status == 0, output
    calls = [json.loads(line) for line in (tmp_path / "recorded.jsonl").read_text().splitlines()]
    assert [call[0] for call in calls] == ["write_hparams", *["write_scalars"] * 12, "flush", "close"]
    assert calls[0][1]["optimizer"]["learning_rate"] == 0.01
    assert [call[1:] for call in calls[1:-2]] == [
        [line.pop("step"), pytest.approx({name: line[name] for name in line if name != "time"}, rel=1e-5)]
        for line in lines_of(tmp_path)
    ]
    assert here("pretrain", tmp_path, f"--config={TINY}")[0] == 0
    changes = json.loads((tmp_path / "config_changes.jsonl").read_text())["changes"]
    assert changes == [f"writers: ['{RECORDER}'] -> []"]


@pytest.mark.slow
def test_a_run_that_resumes_writes_all_its_lines_whatever_form_the_config_has(tmp_path):
    flags = (f"--config={TINY}", "--config.checkpoint_every=4", "--config.steps=200")
    process = facerep(tmp_path, *flags, f"--config.writers=('{RECORDER}',)")
    wait_for(lambda: len(metrics(tmp_path)) > 5, process)
    process.send_signal(signal.SIGTERM)
    status, output = finish(process)
    assert status == 75, output
    status, output = here("pretrain", tmp_path, *flags, f"--config.writers=({{'call':'{RECORDER}'}},)")
    assert status == 0, output
    calls = [json.loads(line) for line in (tmp_path / "recorded.jsonl").read_text().splitlines()]
    assert [call[0] for call in calls].count("write_hparams") == [call[0] for call in calls].count("close") == 2
    seen = [call[1] for call in calls if call[0] == "write_scalars"]
    assert seen == [line["step"] for line in lines_of(tmp_path)] == [*range(1, 201)]


def records(path):
    """The records of W&B's file: a log of LevelDB's behind seven bytes, blocks of 32 KiB with parts of records."""
    raw, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(raw):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", raw, at + 4)
        whole += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole one, or the last part
            yield whole
            whole = b""


@pytest.mark.slow
def test_wandb_goes_on_in_the_same_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    described = spec(WandB, mode="offline", project="faces")
    written(monkeypatch, tmp_path, described, 1, 2, 3)
    (one,) = (tmp_path / "wandb").glob("offline-run-*")
    written(monkeypatch, tmp_path, described, 2, 3, 4)
    kept = json.loads((tmp_path / "writers" / "wandb.json").read_text())["id"]
    found = []
    for folder in sorted((tmp_path / "wandb").glob("offline-run-*"), key=lambda path: path != one):
        assert folder.name.endswith(f"-{kept}")
        rows = []
        for raw in records(folder / f"run-{kept}.wandb"):
            record = Record.FromString(raw)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
        found.append([(row["step"], row["loss"], row["seconds/step"]) for row in rows])
    assert found == [[(1, 1.0, 0.5), (2, 0.5, 0.5), (3, 1 / 3, 0.5)], [(2, 0.5, 0.5), (3, 1 / 3, 0.5), (4, 0.25, 0.5)]]


@pytest.mark.slow
def test_a_run_to_a_wandb_that_cannot_be_reached_ends_as_without(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    process = facerep(tmp_path, f"--config={TINY}", "--config.writers=('wandb',)")
    status, output = finish(process, 120)
    assert status == 0, output
    assert sorted(metrics(tmp_path)) == list(range(1, 13))
    assert "wandb did not end within 10 s and was stopped" in output
    assert "wandb misses 12 of 12 lines" in output
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in left


@pytest.mark.slow
def test_mlflow_goes_on_in_the_same_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    described = spec(MLflow, experiment="faces")
    written(monkeypatch, tmp_path, described, 1, 2, 3)
    written(monkeypatch, tmp_path, described, 2, 3, 4)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("faces")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == tmp_path.name
    assert run.data.params == {"seed": "7", "data.dataset": "manifest/faces", "data.weights": "[]"}
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [
        *((step, pytest.approx(1 / step)) for step in (1, 2, 3, 2, 3, 4))
    ]
    assert not (tmp_path / "mlruns").exists()
