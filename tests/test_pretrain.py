"""Runs of `facerep pretrain` as users start them, in processes of their own."""

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from facerep_jax import cli, pretrain
from facerep_jax.train.checkpoint import Checkpoints, steps_in
from tests.processes import (
    EVERY,
    LONG,
    SMOKE,
    STEPS,
    TINY,
    assert_equal_to_the_bit,
    facerep,
    finish,
    here,
    ids,
    metrics,
    saved,
    wait_for,
)

TOKENIZER = "objective/terms/masked_tokens/tokenizer"


def test_a_run_leaves_what_the_readme_promises(undisturbed):
    assert sorted(metrics(undisturbed)) == list(range(1, STEPS + 1))
    assert np.isfinite([line["loss"] for line in metrics(undisturbed).values()]).all()
    assert {p.name.split(".")[0] for p in undisturbed.iterdir()} == {
        "checkpoints",
        "command",
        "config",
        "events",
        "frozen",
        "lock",
        "masked",
        "metrics",
        "model",
        "sample_ledger",
    }
    model, params = json.loads((undisturbed / "model.json").read_text()), saved(undisturbed, STEPS)
    assert model["parameters"] == sum(x.size for path, x in params.items() if path.startswith("params/"))
    # Four blocks of width 96 see 2 x 37 tokens of each image, forwards and, at twice the cost, backwards.
    assert model["flops_per_image"] > 3 * 2 * 37 * 4 * 2 * 12 * 96**2
    assert (undisturbed / "command.txt").read_text().startswith("facerep pretrain --config=")
    config = json.loads((undisturbed / "config.json").read_text())
    assert config["optimizer"]["b1"] == 0.9  # a default that the recipe does not name


@pytest.mark.slow
def test_the_smoke_variant_takes_two_steps(tmp_path):
    status, output = here("pretrain", tmp_path, f"--config={SMOKE}")
    assert status == 0, output
    assert sorted(metrics(tmp_path)) == [1, 2]
    assert steps_in(tmp_path) == [2]


SCORED = (
    f"--config.evaluate.every={EVERY}",
    "--config.evaluate.dataset=generated_faces:size=48,train=12,validation=8,test=0",
)


def test_killed_and_stopped_and_started_again_a_run_equals_one_that_was_not(undisturbed, tmp_path):
    """Bit for bit: parameters, optimizer, average, and the losses of all later steps, hence the order of the data.

    It is killed after its first checkpoint, asked to stop after its second, and then left alone. Its encoder is scored
    while it is trained, which the undisturbed run's is not.

    Tried: restoring the stream at the wrong batch, a step counter off by one, an average not restored; all turn it red.
    """
    first = facerep(tmp_path, *LONG, *SCORED)
    wait_for(lambda: steps_in(tmp_path) == [EVERY] and EVERY + 1 in metrics(tmp_path), first)
    first.send_signal(signal.SIGKILL)
    assert finish(first)[0] == -signal.SIGKILL

    second = facerep(tmp_path, *LONG, *SCORED)
    wait_for(lambda: 2 * EVERY + 1 in metrics(tmp_path), second)
    second.send_signal(signal.SIGTERM)
    status, output = finish(second)
    assert status == 75, output
    last = max(metrics(tmp_path))
    assert 2 * EVERY < last < STEPS
    assert f"saved step {last} after SIGTERM" in output
    assert (tmp_path / "checkpoints" / str(last) / "state").exists()

    status, output = here("pretrain", tmp_path, *LONG, *SCORED)
    assert status == 0, output
    assert_equal_to_the_bit(tmp_path, undisturbed, STEPS)
    scores = {step: line["evaluate/landmarks"] for step, line in metrics(tmp_path).items() if "evaluate/spread" in line}
    assert [*scores] == [0, EVERY, 2 * EVERY, STEPS]
    assert len({*scores.values()}) == 4
    assert metrics(tmp_path)[EVERY]["evaluate/effective_rank"] > 1
    assert {path.split("/")[0] for path in saved(tmp_path, STEPS)} == {"step", "params", "opt_state", "ema"}
    for step in range(EVERY + 1, STEPS + 1):
        assert metrics(tmp_path)[step]["loss"] == metrics(undisturbed)[step]["loss"], step

    seen = ids(tmp_path)
    assert seen == ids(undisturbed)
    assert sorted(seen) == list(range(1, STEPS + 1))
    taken = len((tmp_path / "sample_ledger.jsonl").read_text().splitlines())
    assert taken > STEPS  # those after the first checkpoint were taken twice
    epoch = [name for step in range(1, 5) for name in seen[step]]
    assert len(set(epoch)) == len(epoch) == 64


@pytest.mark.slow
def test_a_second_run_in_a_workdir_is_refused(tmp_path):
    first = facerep(tmp_path, *LONG, "--config.steps=100000")
    wait_for(lambda: 1 in metrics(tmp_path), first)
    status, output = finish(facerep(tmp_path, *LONG, "--config.steps=100000"))
    assert status == 2
    assert f"is in use by process {first.pid} on" in output
    first.send_signal(signal.SIGKILL)
    finish(first)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_set_aside_and_the_run_comes_to_the_same(undisturbed, tmp_path):
    """Tried: no look at the digests; the damaged last step then counts as the run's end."""
    flags = (*LONG, "--config.checkpoint_every=3", "--config.operational.keep_checkpoints=9")
    assert finish(facerep(tmp_path, *flags))[0] == 0
    assert steps_in(tmp_path) == [3, 6, 9, 12]
    for step in (9, 12):
        flip(max((tmp_path / "checkpoints" / str(step) / "state").rglob("*"), key=lambda path: path.stat().st_size))
    status, output = finish(facerep(tmp_path, *flags))
    assert status == 0, output
    for step in (9, 12):
        assert f"checkpoint {step} is damaged" in output
        assert (tmp_path / "checkpoints" / f"{step}.damaged").is_dir()
    assert steps_in(tmp_path) == [3, 6, 9, 12]
    assert_equal_to_the_bit(tmp_path, undisturbed, STEPS)


@pytest.mark.slow
def test_one_device_and_eight_come_to_the_same(undisturbed, tmp_path):
    status, output = finish(facerep(tmp_path, *LONG, devices=1))
    assert status == 0, output
    for step in (1, 2):  # later losses differ by what rounding makes of many updates
        assert metrics(tmp_path)[step]["loss"] == pytest.approx(metrics(undisturbed)[step]["loss"], rel=1e-4)


def test_what_may_change_on_resume_is_recorded_and_the_rest_is_refused(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    status, output = here("pretrain", tmp_path, *LONG, "--config.log_every=2", "--config.mesh.replica=2")
    assert status == 0, output
    changes = json.loads((tmp_path / "config_changes.jsonl").read_text())
    assert changes == {"step": STEPS, "changes": ["log_every: 1 -> 2", "mesh.replica: 1 -> 2"]}
    before = (tmp_path / "config.json").read_text()
    status, output = here("pretrain", tmp_path, *LONG, "--config.optimizer.learning_rate=0.5")
    assert status == 2
    assert "optimizer.learning_rate: 0.0015 -> 0.5" in output
    assert (tmp_path / "config.json").read_text() == before


def test_losses_that_are_no_number_stop_the_run_and_never_reach_the_state(tmp_path):
    flags = ("--config.steps=6", "--config.checkpoint_every=1", "--config.operational.nonfinite_steps=3")
    huge = "--config.optimizer.learning_rate=1e30"
    status, output = here("pretrain", tmp_path, f"--config={TINY}", *flags, huge)
    assert status == 1, output
    said = r"facerep pretrain: the last 3 steps up to (\d) had a .* that is not finite and changed nothing"
    last = int(re.search(said, output)[1])
    assert "Traceback" not in output
    records = [json.loads(line) for line in (tmp_path / "nonfinite.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records][-3:] == list(range(last - 2, last + 1))
    assert all(len(set(record["ids"])) == 16 for record in records)
    for step in steps_in(tmp_path):
        assert all(np.isfinite(array).all() for array in saved(tmp_path, step).values())


@pytest.fixture(scope="module")
def dvae(tmp_path_factory) -> Path:
    """The workdir of a tiny dVAE after two steps."""
    workdir = tmp_path_factory.mktemp("dvae")
    status, output = here("pretrain", workdir, "--config=configs/pretrain/dvae.py:smoke")
    assert status == 0, output
    assert metrics(workdir)[2]["temperature"] == pytest.approx(1 / 16)
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "terms"),
    [
        ("objective=itc+mim,tokenizer=dvae,weights=DVAE", {"contrastive", "masked_tokens"}),
        ("objective=itc,align,flip", {"contrastive"}),
        ("objective=mim,mim_depth=6", {"masked_tokens"}),
    ],
)
def test_ablations_of_farl_take_two_steps(dvae, tmp_path, args, terms):
    status, output = here("pretrain", tmp_path, f"--config={SMOKE},{args}".replace("DVAE", str(dvae)))
    assert status == 0, output
    assert set(metrics(tmp_path)) == {1, 2}
    assert {name.split("/")[0] for name in metrics(tmp_path)[2] if "/" in name} - {"seconds"} == terms
    assert all(np.isfinite(value) for value in metrics(tmp_path)[2].values())
    assert (tmp_path / "frozen.safetensors").exists() == ("masked_tokens" in terms)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("", "objective/terms/masked_tokens/tokenizer has no weights; give a file of weights or"),
        ("{tmp}/none", "none is neither a file of weights nor a pre-training's WORKDIR[@STEP] with a checkpoint"),
        ("{tmp}/text.safetensors", "text.safetensors is no safetensors file: "),
        ("{tmp}/other.safetensors", "other.safetensors: the layout of the weights is not known"),
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


@pytest.mark.slow
def test_weights_of_another_size_are_named(dvae, tmp_path, capsys):
    flags = [f"--config={SMOKE},tokenizer=dvae,weights={dvae}", f"--workdir={tmp_path / 'run'}"]
    flags.append("--config.objective.terms.masked_tokens.tokenizer.codes=64")
    assert cli.main(["facerep", "pretrain", *flags]) == 2
    assert "output/bias is (128,) float32 there and (64,) float32 in the config" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--config.steps=0",), "steps is at least 1, not 0"),
        (("--config.steps=-5",), "steps is at least 1, not -5"),
        (("--config.checkpoint_every=-1",), "checkpoint_every is at least 0, not -1"),
        (("--config.checkpoint_minutes=-1",), "checkpoint_minutes is at least 0, not -1"),
        (("--config.operational.keep_checkpoints=0",), "operational.keep_checkpoints is at least 1, not 0"),
        (("--config.optimizer.learning_rate=-1",), "optimizer.learning_rate is at least 0, not -1"),
        (("--config.data.batch_size=0",), "data.batch_size is at least 1, not 0"),
        (("--config.data.batch_size=-1",), "data.batch_size is at least 1, not -1"),
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
        (("--config.encoder.heads=5",), "a width of 96 does not divide into 5 heads"),
        (("--config.encoder.patch_dropout=0.5",), "not for views with kept or masked patches"),
        (("--config.ema=1.0",), "ema is a decay of at least 0 and less than 1"),
        (("--config.ema=-1",), "ema is a decay of at least 0 and less than 1"),
        (("--config.ema=2",), "ema is a decay of at least 0 and less than 1"),
        (
            ("--config.optimizer.freeze=(('incoder/',5),)",),
            "optimizer.freeze has 'incoder/', which matches no parameter",
        ),
        (("--config.sharding_rules=(('x$',('fsdp',)),)",), "sharding_rules has 'x$', which matches no parameter"),
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


def test_a_workdir_that_cannot_be_is_refused_before_anything_is_traced(tmp_path, capsys, monkeypatch):
    monkeypatch.delattr(pretrain, "assemble")
    (tmp_path / "file").write_text("")
    assert cli.main(["facerep", "pretrain", f"--config={SMOKE}", f"--workdir={tmp_path / 'file' / 'run'}"]) == 2
    assert capsys.readouterr().err.strip().endswith(f"{tmp_path / 'file'} is a file")


def test_checkpoints_without_their_config_are_refused(tmp_path, capsys):
    (tmp_path / "checkpoints" / "2" / "state").mkdir(parents=True)
    assert cli.main(["facerep", "pretrain", f"--config={SMOKE}", f"--workdir={tmp_path}"]) == 2
    assert "holds checkpoints (2, ...) but no config.json" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_a_run_does_not_go_on_with_a_data_set_that_was_prepared_anew(tmp_path, monkeypatch):
    def prepare(seed):
        faces = f"generated_faces:size=48,train=16,validation=0,test=0,seed={seed}"
        assert cli.main(["facerep", "prepare", faces, f"--data_dir={tmp_path}", "--overwrite"]) == 0

    data = ("--config.data.dataset=generated_faces/default", f"--config.data.data_dir={tmp_path}")

    def pretrain():
        return here("pretrain", tmp_path / "run", f"--config={TINY}", "--config.steps=1", *data)

    prepare(seed=0)
    assert pretrain()[0] == 0
    prepare(seed=1)
    status, output = pretrain()
    assert status == 2
    assert "data set 'generated_faces/default' was prepared anew after step 1, " in output
    assert steps_in(tmp_path / "run") == [1]

    restore = Checkpoints.restore

    def without_digests(*args):
        state, meta = restore(*args)
        assert len(meta.pop("datasets")) == 1
        return state, meta

    with monkeypatch.context() as older:
        older.setattr(Checkpoints, "restore", without_digests)
        assert pretrain()[0] == 0
    prepare(seed=0)
    assert pretrain()[0] == 0


@pytest.mark.slow
def test_weights_of_a_mixture_may_be_added_to_when_a_run_goes_on(tmp_path):
    """From a checkpoint of step 6 on, as if the new weights had been known from the start."""
    faces = "generated_faces:size=48,validation=0,test=0,train="
    flags = ["facerep", "pretrain", f"--config={SMOKE}", f"--config.data.dataset={faces}64+{faces}48,seed=7"]
    flags += ["--config.steps=12", "--config.checkpoint_every=6", "--config.operational.sample_ledger=True"]
    first, both = "(0,(3,1))", "(0,(3,1)),(6,(1,1))"

    def trained(workdir, weights):
        assert cli.main([*flags, f"--workdir={workdir}", f"--config.data.weights=({weights},)"]) == 0
        return ids(workdir)

    before = trained(tmp_path / "run", first)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "12")
    after, straight = trained(tmp_path / "run", both), trained(tmp_path / "straight", both)
    assert after == straight
    assert {step: straight[step] for step in range(1, 7)} == {step: before[step] for step in range(1, 7)}
    assert all(straight[step] != before[step] for step in range(7, 13))
    seen = [name for step in straight.values() for name in step]
    assert max(seen.count(name) for name in seen) == 2  # 120 records of 64 and 72 of 48: nothing is seen too often
    assert len(set(seen)) == 64 + 48  # and nothing is left out
    assert cli.main([*flags, f"--workdir={tmp_path / 'run'}", "--config.data.weights=((0,(1,1)),)"]) == 2
