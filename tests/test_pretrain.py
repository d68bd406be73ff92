"""Runs of `facerep pretrain` as users start them, in processes of their own."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors
import safetensors.numpy

from configs.pretrain.farl import get_config
from facerep_jax import cli
from facerep_jax.models.dvae import published_name
from facerep_jax.pretrain import frozen_networks, model_maker, open_stream
from facerep_jax.train.state import abstract, flat

SMOKE = "configs/pretrain/farl.py:smoke"
LONG = (f"--config={SMOKE}", "--config.steps=20", "--config.log_every=1", "--config.ema=0.9")
ROOT = Path(__file__).parent.parent
TOKENIZER = "objective/terms/masked_tokens/tokenizer"


def facerep(workdir: Path, *flags: str, devices: int = 8) -> subprocess.Popen[str]:
    env = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    return subprocess.Popen(
        [sys.executable, "-m", "facerep_jax.cli", "pretrain", f"--workdir={workdir}", *flags],
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=900)
    return process.returncode, out + err


def metrics(workdir: Path) -> dict[int, dict[str, float]]:
    """Of each step, the last that was written."""
    path = workdir / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {line["step"]: line for line in lines}


def saved(workdir: Path, step: int) -> dict[str, np.ndarray]:
    folder = workdir / "checkpoints" / str(step) / "state"
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    checkpointer = ocp.PyTreeCheckpointer()
    tree = checkpointer.metadata(folder).item_metadata.tree
    args = jax.tree.map(lambda _: ocp.ArrayRestoreArgs(sharding=sharding), tree)
    restored = checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=args))
    return {path: np.asarray(leaf) for path, leaf in flat(restored).items()}


def wait_for(condition, process: subprocess.Popen[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, finish(process)
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("undisturbed")
    status, output = finish(facerep(workdir, *LONG))
    assert status == 0, output
    return workdir


def test_the_smoke_variant_takes_two_steps_and_leaves_what_the_readme_promises(tmp_path):
    status, output = finish(facerep(tmp_path, f"--config={SMOKE}"))
    assert status == 0, output
    assert sorted(metrics(tmp_path)) == [1, 2]
    assert np.isfinite([metrics(tmp_path)[step]["loss"] for step in (1, 2)]).all()
    assert {p.name.split(".")[0] for p in tmp_path.iterdir()} == {
        "checkpoints",
        "command",
        "config",
        "events",
        "frozen",
        "masked",
        "metrics",
        "model",
    }
    model = json.loads((tmp_path / "model.json").read_text())
    assert model["parameters"] == sum(x.size for path, x in saved(tmp_path, 2).items() if path.startswith("params/"))
    # Four blocks of width 96 see 2 x 37 tokens of each image, forwards and, at twice the cost, backwards.
    assert model["flops_per_image"] > 3 * 2 * 37 * 4 * 2 * 12 * 96**2
    assert (tmp_path / "command.txt").read_text().startswith("facerep pretrain --config=")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["optimizer"]["b1"] == 0.9  # a default that the recipe does not name


def test_killed_and_started_again_a_run_equals_one_that_was_not(undisturbed, tmp_path):
    """Bit for bit: parameters, optimizer, average, and the losses of all later steps, hence the order of the data.

    Tried: restoring the stream at the wrong batch, a step counter off by one, an average not restored; all turn it red.
    """
    flags = (*LONG, "--config.checkpoint_every=12")
    first = facerep(tmp_path, *flags)
    wait_for(lambda: (tmp_path / "checkpoints" / "12" / "state").exists() and 13 in metrics(tmp_path), first)
    first.send_signal(signal.SIGKILL)
    assert finish(first)[0] == -signal.SIGKILL
    status, output = finish(facerep(tmp_path, *flags))
    assert status == 0, output

    expected, found = saved(undisturbed, 20), saved(tmp_path, 20)
    assert expected.keys() == found.keys()
    assert {path.split("/")[0] for path in found} == {"step", "params", "opt_state", "ema"}
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)
    for step in range(13, 21):
        assert metrics(tmp_path)[step]["loss"] == metrics(undisturbed)[step]["loss"], step


def test_a_signal_saves_and_asks_for_another_start(undisturbed, tmp_path):
    process = facerep(tmp_path, *LONG, "--config.steps=100000")
    wait_for(lambda: 3 in metrics(tmp_path), process)
    process.send_signal(signal.SIGTERM)
    status, output = finish(process)
    assert status == 75, output
    last = max(metrics(tmp_path))
    assert f"saved step {last} after SIGTERM" in output
    assert (tmp_path / "checkpoints" / str(last) / "state").exists()


def test_one_device_and_eight_come_to_the_same(undisturbed, tmp_path):
    status, output = finish(facerep(tmp_path, *LONG, "--config.steps=3", devices=1))
    assert status == 0, output
    for step in (1, 2):  # the schedule of the learning rate, which depends on `steps`, acts on the third loss
        assert metrics(tmp_path)[step]["loss"] == pytest.approx(metrics(undisturbed)[step]["loss"], rel=1e-4)


def test_what_may_change_on_resume_is_recorded_and_the_rest_is_refused(tmp_path):
    flags = (f"--config={SMOKE}", "--config.steps=3")
    assert finish(facerep(tmp_path, *flags))[0] == 0
    status, output = finish(facerep(tmp_path, *flags, "--config.log_every=2", "--config.mesh.replica=2"))
    assert status == 0, output
    changes = json.loads((tmp_path / "config_changes.jsonl").read_text())
    assert changes == {"step": 3, "changes": ["log_every: 1 -> 2", "mesh.replica: 1 -> 2"]}
    before = (tmp_path / "config.json").read_text()
    status, output = finish(facerep(tmp_path, *flags, "--config.optimizer.learning_rate=0.5"))
    assert status == 2
    assert "optimizer.learning_rate: 0.0015 -> 0.5" in output
    assert (tmp_path / "config.json").read_text() == before


def test_a_loss_that_is_no_number_stops_the_run_and_is_never_saved(tmp_path):
    flags = (f"--config={SMOKE}", "--config.steps=9", "--config.checkpoint_every=1", "--config.log_every=1")
    status, output = finish(facerep(tmp_path, *flags, "--config.optimizer.learning_rate=1e30"))
    assert status == 1, output
    (line,) = [line for line in output.splitlines() if "the loss is" in line]
    assert "nothing after step" in line
    assert "Traceback" not in output
    for path in (tmp_path / "checkpoints").iterdir():
        assert np.isfinite(metrics(tmp_path)[int(path.name)]["loss"])


@pytest.fixture(scope="module")
def dvae(tmp_path_factory) -> Path:
    """The workdir of a tiny dVAE after two steps."""
    workdir = tmp_path_factory.mktemp("dvae")
    status, output = finish(facerep(workdir, "--config=configs/pretrain/dvae.py:smoke"))
    assert status == 0, output
    assert metrics(workdir)[2]["dvae/temperature"] == pytest.approx(1 / 16)
    return workdir


@pytest.mark.parametrize(
    ("args", "terms"),
    [
        ("objective=itc+mim,tokenizer=dvae,weights=DVAE", {"contrastive", "masked_tokens"}),
        ("objective=itc,align,flip", {"contrastive"}),
        ("objective=mim,mim_depth=6", {"masked_tokens"}),
    ],
)
def test_ablations_of_farl_take_two_steps(dvae, tmp_path, args, terms):
    status, output = finish(facerep(tmp_path, f"--config={SMOKE},{args}".replace("DVAE", str(dvae)), devices=1))
    assert status == 0, output
    assert set(metrics(tmp_path)) == {1, 2}
    assert {name.split("/")[0] for name in metrics(tmp_path)[2] if "/" in name} == terms
    assert all(np.isfinite(value) for value in metrics(tmp_path)[2].values())
    assert (tmp_path / "frozen.safetensors").exists() == ("masked_tokens" in terms)


def frozen(weights: Path | str, workdir: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tokenizer's arrays by their names in it, and the digest, of a run with these weights."""
    config = get_config(f"smoke,objective=mim,tokenizer=dvae,weights={weights}")
    make = model_maker(config)
    stream = open_stream(config, ("image", "masked"))
    arrays, digest = frozen_networks(make, abstract(make)[3], stream, workdir)
    stream.close()
    return {path.removeprefix(f"{TOKENIZER}/"): array for path, array in flat(arrays).items()}, digest


def test_a_run_keeps_the_weights_that_it_was_given(dvae, tmp_path):
    """Of a checkpoint and of a file alike; and it goes on when neither is there any more.

    Tried: a kernel's rows and columns swapped.
    """
    place = "params/encoder/"
    encoder = {path.removeprefix(place): x for path, x in saved(dvae, 2).items() if path.startswith(place)}
    state = {published_name(path): x.transpose(3, 2, 0, 1) if x.ndim == 4 else x for path, x in encoder.items()}
    file, workdir = tmp_path / "dvae.safetensors", tmp_path / "run"
    safetensors.numpy.save_file({name: np.ascontiguousarray(x) for name, x in state.items()}, file)
    given, digest = frozen(file, workdir)
    network = {path.removeprefix("network/"): x for path, x in given.items() if path != "frequency"}
    assert network.keys() == encoder.keys()
    for path, array in encoder.items():
        np.testing.assert_array_equal(network[path], array)
    assert given["frequency"].sum() == pytest.approx(1)
    assert len(np.unique(given["frequency"])) > 1

    with safetensors.safe_open(workdir / "frozen.safetensors", "np") as kept:
        origin = json.loads(kept.metadata()["weights"])
    assert origin == {TOKENIZER: f"{file} sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"}
    file.unlink()
    again, same = frozen(file, workdir)
    assert (
        same
        == digest
        == {"frozen.safetensors": hashlib.sha256((workdir / "frozen.safetensors").read_bytes()).hexdigest()}
    )
    of_checkpoint, _ = frozen(f"{dvae}@2", tmp_path / "other")
    for path, array in given.items():
        np.testing.assert_array_equal(again[path], array)
        np.testing.assert_array_equal(of_checkpoint[path], array)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("", "objective/terms/masked_tokens/tokenizer has no weights; give a safetensors file or"),
        ("{tmp}/none", "none is neither a safetensors file nor a pre-training's WORKDIR[@STEP] with a checkpoint"),
        ("{tmp}/text.safetensors", "text.safetensors is no safetensors file: "),
        ("{tmp}/other.safetensors", "other.safetensors: the dVAE's weights lack 'blocks."),
        ("gs://bucket/dvae.safetensors", "gs:/"),
    ],
)
def test_wrong_weights_are_one_line_and_leave_nothing(tmp_path, capsys, weights, message):
    (tmp_path / "text.safetensors").write_text("no tensors, but more than eight bytes of text")
    safetensors.numpy.save_file({"x": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    config = f"--config={SMOKE},tokenizer=dvae,weights={weights.format(tmp=tmp_path)}"
    assert cli.main(["facerep", "pretrain", config, f"--workdir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "run").exists()


def test_weights_of_another_size_are_named(dvae, tmp_path, capsys):
    flags = [f"--config={SMOKE},tokenizer=dvae,weights={dvae}", f"--workdir={tmp_path / 'run'}"]
    flags.append("--config.objective.terms.masked_tokens.tokenizer.codes=64")
    assert cli.main(["facerep", "pretrain", *flags]) == 2
    assert "encoder/output/bias is (128,) there and (64,) in the config" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--config.data.batch_size=12",), "data.batch_size 12 is not divisible by the 8 devices"),
        (("--config.data.dataset=manifest/mine",), "facerep prepare manifest --name mine"),
        (("--config.encoder.image_size=4",), "an image of 4 x 4 pixels is no grid of patches of 8 x 8"),
        (("--config.encoder.variant=Q/8",), "encoder variant 'Q/8' is not SIZE/PATCH"),
        (("--config.data.batchsize=8",), "batch_size"),
        (("--config.objective.terms.contrastive.temprature=1",), "temperature"),
        (("--config.dtype=float16",), "dtype is auto, float32 or bfloat16"),
        (("--config.remat=all",), "remat is 'none' or one of"),
        (("--config.sharding=fspd",), "did you mean 'fsdp'"),
        (("--config.data.transforms=()",), "the objective needs masked, text"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, flags, message):
    workdir = tmp_path / "run"
    status = cli.main(["facerep", "pretrain", f"--config={SMOKE}", f"--workdir={workdir}", *flags])
    error = capsys.readouterr().err.strip()
    assert status == 2
    assert message in error
    assert "\n" not in error
    assert not workdir.exists()


def test_checkpoints_without_their_config_are_refused(tmp_path, capsys):
    (tmp_path / "checkpoints" / "2" / "state").mkdir(parents=True)
    assert cli.main(["facerep", "pretrain", f"--config={SMOKE}", f"--workdir={tmp_path}"]) == 2
    assert "holds checkpoints (2, ...) but no config.json" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
