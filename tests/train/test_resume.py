"""What may change when a run goes on."""

import json

import pytest
from ml_collections import ConfigDict

from facerep_jax.train import digests
from facerep_jax.train.handover import Handed
from facerep_jax.train.resume import changes_since_start, check_datasets, extends, keep_start, write_config

DAMAGED = (b"", b'{"seed": ', b"\0\0", b'{"seed": "\xff"}')  # empty, cut, never written, changed


def config(**changes):
    """A config with the parts that resuming looks at; changes are by path, with __ for dots."""
    made = ConfigDict(
        dict(
            seed=0,
            steps=12,
            log_every=50,
            checkpoint_every=0,
            checkpoint_minutes=30.0,
            mesh=dict(replica=1, fsdp=-1),
            sharding="replicated",
            data=dict(dataset="faces", weights=((0, (1, 1)),)),
            operational=dict(threads=8),
        )
    )
    for path, value in changes.items():
        made.update_from_flattened_dict({path.replace("__", "."): value})
    return made


@pytest.fixture
def workdir(tmp_path):
    """A run of `config()` with a whole checkpoint of step 6."""
    write_config(config(), [], tmp_path, step=0)
    folder = tmp_path / "checkpoints" / "6"
    folder.mkdir(parents=True)
    digests.seal(folder)
    return tmp_path


def test_a_run_that_begins_and_one_that_goes_on_as_it_was_have_no_changes(workdir, tmp_path_factory):
    assert changes_since_start(config(), tmp_path_factory.mktemp("new")) == []
    assert changes_since_start(config(), workdir) == []


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("log_every", 2, "log_every: 50 -> 2"),
        ("checkpoint_minutes", 5.0, "checkpoint_minutes: 30.0 -> 5.0"),
        ("mesh__fsdp", 4, "mesh.fsdp: -1 -> 4"),
        ("sharding", "fsdp", "sharding: replicated -> fsdp"),
        ("operational__threads", 2, "operational.threads: 8 -> 2"),
    ],
)
def test_how_a_run_is_operated_and_laid_out_may_change(workdir, path, value, line):
    assert changes_since_start(config(**{path: value}), workdir) == [line]


@pytest.mark.parametrize(("path", "value"), [("seed", 1), ("data__dataset", "other")])
def test_what_is_learnt_may_not(workdir, path, value):
    with pytest.raises(ValueError, match=rf"is the run of another config: {path.replace('__', '.')}: [^;]*$"):
        changes_since_start(config(**{path: value}), workdir)


def test_who_wants_more_steps_is_told_how_to_train_further(workdir):
    with pytest.raises(ValueError) as error:
        changes_since_start(config(steps=24), workdir)
    cure = f"to train its encoder further: --config.init={workdir} and another --workdir"
    assert str(error.value) == f"{workdir} is the run of another config: steps: 12 -> 24; {cure}"


@pytest.mark.parametrize(
    ("weights", "allowed"),
    [
        (((0, (1, 1)), (6, (1, 3))), True),  # from the checkpoint's step on
        (((0, (1, 1)), (5, (1, 3))), False),
        (((0, (2, 1)),), False),
        ((), False),
    ],
)
def test_a_mixture_may_change_from_the_newest_checkpoint_on(workdir, weights, allowed):
    changed = config(data__weights=weights)
    if allowed:
        assert [line.split(":")[0] for line in changes_since_start(changed, workdir)] == ["data.weights"]
    else:
        with pytest.raises(ValueError, match=r"data\.weights"):
            changes_since_start(changed, workdir)


def test_a_mixture_without_weights_gets_none_later():
    assert not extends([], [[6, [1, 1]]], 0)
    assert extends([[0, [1, 1]]], [[0, [1, 1]]], 9)


def test_checkpoints_without_their_config_are_refused(workdir):
    (workdir / "config.json").unlink()
    with pytest.raises(ValueError, match=r"holds checkpoints \(6, \.\.\.\) but no config\.json"):
        changes_since_start(config(), workdir)


def test_a_run_begins_from_the_weights_that_its_first_start_found(tmp_path):
    """Tried: the name alone is compared, which is the same for newer checkpoints."""

    def start(step, digest):
        return Handed(None, {}, None, {"path": "runs/a", "step": step, "weights": "params", "digest": digest})

    keep_start(start(2, "a" * 64), tmp_path)
    keep_start(start(3, "b" * 64), tmp_path)  # the first came to nothing
    write_config(config(), [], tmp_path, step=0)
    keep_start(start(4, "b" * 64), tmp_path)
    keep_start(None, tmp_path)
    with pytest.raises(
        ValueError, match=r"other weights of runs/a \(step 5, .*than when .* began \(step 3, sha256 bbbb"
    ):
        keep_start(start(5, "c" * 64), tmp_path)
    assert json.loads((tmp_path / "init.json").read_text())["step"] == 3


@pytest.mark.parametrize("raw", DAMAGED)
def test_a_damaged_record_of_a_run_is_named(workdir, raw):
    (workdir / "init.json").write_bytes(raw)
    with pytest.raises(ValueError, match=r"init\.json is not JSON: "):
        keep_start(Handed(None, {}, None, {"path": "runs/a"}), workdir)
    (workdir / "config.json").write_bytes(raw)
    with pytest.raises(ValueError, match=r"config\.json is not JSON: "):
        changes_since_start(config(), workdir)


def test_data_sets_are_those_of_the_checkpoint():
    """Tried: all names are compared, which refuses a set that is added and every checkpoint of an older version."""
    now = {"manifest/a": "1" * 64, "manifest/b": "2" * 64}
    for then in (now, {}, {"manifest/a": "1" * 64}, {"manifest/c": "3" * 64}):
        check_datasets(then, now, 7)
    with pytest.raises(ValueError, match=r"data set 'manifest/b' was prepared anew after step 7, .*another --workdir"):
        check_datasets({**now, "manifest/b": "3" * 64}, now, 7)


def test_the_config_is_kept_and_each_change_with_its_step(workdir):
    changed = config(log_every=2, data__weights=((0, (1, 1)), (6, (1, 3))))
    changes = changes_since_start(changed, workdir)
    write_config(changed, changes, workdir, step=6)
    assert json.loads((workdir / "config.json").read_text())["data"]["weights"] == [[0, [1, 1]], [6, [1, 3]]]
    assert changes_since_start(changed, workdir) == []
    write_config(config(log_every=3), ["log_every: 2 -> 3"], workdir, step=7)
    lines = [json.loads(line) for line in (workdir / "config_changes.jsonl").read_text().splitlines()]
    assert lines == [{"step": 6, "changes": changes}, {"step": 7, "changes": ["log_every: 2 -> 3"]}]
