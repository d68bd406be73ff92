import errno
import os
import shutil
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint._src.serialization import tensorstore_utils

from facerep_jax.train import checkpoint, digests, sharding
from facerep_jax.train.state import TrainState


def state_of(value: float, ema: bool = True) -> TrainState:
    params = {"encoder": {"blocks": {"up": {"kernel": jnp.full((2, 8, 4), value)}}, "scale": jnp.full(3, value)}}
    return TrainState(
        step=jnp.asarray(5, jnp.int32),
        params=params,
        variables={"count": jnp.arange(4, dtype=jnp.uint32)},
        opt_state=({"mu": params},),
        ema={"params": jax.tree.map(lambda x: x / 2, params), "variables": {}} if ema else None,
    )


def placed(state: TrainState, mesh: jax.sharding.Mesh, rules: str) -> TrainState:
    """Shapes with shardings, as a restore wants them."""
    return sharding.placed(state, sharding.shardings(state, mesh, sharding.rules_of(rules, {})))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    checkpoints = checkpoint.Checkpoints(workdir / "checkpoints", keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, state_of(float(step)), {"data": {"next": step * 64}})
    checkpoints.wait()
    checkpoints.close()
    return workdir


def test_what_was_saved_comes_back_bit_for_bit_on_another_layout(saved):
    mesh, like = sharding.make_mesh({"fsdp": -1}), state_of(0.0)
    checkpoints = checkpoint.Checkpoints(saved / "checkpoints")
    state, meta = checkpoints.restore(checkpoints.latest(), placed(like, mesh, "fsdp"))
    checkpoints.close()
    assert meta == {"data": {"next": 192}}
    assert jax.tree.structure(state) == jax.tree.structure(like)
    for found, expected in zip(jax.tree.leaves(state), jax.tree.leaves(state_of(3.0)), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    kernel = state.params["encoder"]["blocks"]["up"]["kernel"]
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(2, 1, 4)}


def test_only_the_newest_are_kept(saved):
    assert checkpoint.steps_in(saved) == [2, 3]


def test_a_state_without_average_is_restored_without(tmp_path):
    like = state_of(1.0, ema=False)
    checkpoints = checkpoint.Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, like, {})
    checkpoints.wait()
    mesh = sharding.make_mesh({"fsdp": -1})
    state, _ = checkpoints.restore(1, placed(like, mesh, "replicated"))
    checkpoints.close()
    assert state.ema is None


def test_names_of_checkpoints(saved, monkeypatch):
    assert checkpoint.find(str(saved)) == (saved, 3)
    assert checkpoint.find(f"{saved}@2") == (saved, 2)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 7 .* there are 2, 3"):
        checkpoint.find(f"{saved}@7")
    with pytest.raises(FileNotFoundError, match="no checkpoint in nowhere"):
        checkpoint.find("nowhere")
    for name, meant in (
        *(("/checkpoints/2", "@2"), ("/checkpoints", ""), ("/checkpoints/newest", "")),
        *(("@latest", ""), ("@", "")),
    ):
        with pytest.raises(FileNotFoundError, match=rf"no checkpoint in {saved}{name}; did you mean {saved}{meant}\?"):
            checkpoint.find(f"{saved}{name}")
    for name in ("nowhere@latest", f"{saved.parent}/checkpoints/2"):
        with pytest.raises(FileNotFoundError, match=f"no checkpoint in {name}; give WORKDIR"):
            checkpoint.find(name)
    monkeypatch.setenv("HOME", str(saved.parent))
    assert checkpoint.find(f"~/{saved.name}@2") == checkpoint.find(f"{saved}@2")


def test_parts_are_loaded_without_the_rest_and_what_was_not_saved_is_empty(saved):
    parts = [("params", "encoder"), ("ema", "params", "encoder"), ("teacher", "encoder")]
    params, average, teacher = checkpoint.load_parts(saved, 3, parts)
    np.testing.assert_array_equal(params["scale"], np.full(3, 3.0))
    np.testing.assert_array_equal(average["scale"], np.full(3, 1.5))
    assert set(params) == {"blocks", "scale"}
    assert teacher == {}
    assert checkpoint.load_parts(saved, 3, parts[2:]) == [{}]


# Checkpoints that cannot lie


def checkpoints_of(workdir, steps=(1, 2, 3), keep=3):
    """A folder of whole checkpoints."""
    checkpoints = checkpoint.Checkpoints(workdir / "checkpoints", keep=keep)
    for step in steps:
        checkpoints.save(step, state_of(float(step)), {"step": step})
    checkpoints.close()
    return workdir / "checkpoints"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return checkpoints_of(tmp_path_factory.mktemp("whole"), steps=(1, 2))


@pytest.fixture
def copy(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "checkpoints"))


def newest(folder):
    checkpoints = checkpoint.Checkpoints(folder)
    try:
        return checkpoints.latest()
    finally:
        checkpoints.close()


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_flip_in_any_file_is_found(whole, tmp_path):
    """orbax itself loads most of these without a word."""
    for number, original in enumerate(files(whole / "2")):
        folder = Path(shutil.copytree(whole, tmp_path / str(number) / "checkpoints"))
        path = folder / original.relative_to(whole)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1 << number % 8
        path.write_bytes(data)
        with pytest.raises(ValueError, match="no checkpoint there is undamaged"):
            checkpoint.find(f"{folder.parent}@2")
        assert checkpoint.find(str(folder.parent)) == (folder.parent, 1)
    assert number > 5


@pytest.mark.parametrize("what", ["cut", "missing", "empty", "half", "foreign"])
def test_a_damaged_newest_checkpoint_is_set_aside_for_the_one_before(copy, what, caplog):
    path = max(files(copy / "2" / "state"), key=lambda path: path.stat().st_size)
    if what == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    elif what == "missing":
        path.unlink()
    elif what == "empty":
        (copy / "120").mkdir()
    elif what == "half":
        shutil.copytree(copy / "2" / "state", copy / "120" / "state")
    else:
        shutil.copytree(copy / "2", copy / "120")
    before = digests.all_steps(copy)
    assert newest(copy) == before[-2]
    assert f"checkpoint {before[-1]} is damaged" in caplog.text
    assert (copy / f"{before[-1]}.damaged").is_dir()
    assert digests.all_steps(copy) == before[:-1]


def test_a_step_that_was_set_aside_can_be_saved_again(copy):
    files(copy / "2" / "state")[0].unlink()
    like = state_of(0.0)
    checkpoints = checkpoint.Checkpoints(copy)
    assert checkpoints.latest() == 1
    checkpoints.save(2, state_of(7.0), {})
    checkpoints.wait()
    state, _ = checkpoints.restore(2, placed(like, sharding.make_mesh({"fsdp": -1}), "replicated"))
    checkpoints.close()
    assert float(state.params["encoder"]["scale"][0]) == 7.0
    assert newest(copy) == 2


def test_where_all_are_damaged_the_run_is_refused_and_nothing_is_moved(copy):
    for step in (1, 2):
        next(path for path in files(copy / str(step)) if "digests" not in path.name).unlink()
    with pytest.raises(ValueError, match=r"no checkpoint in .* is undamaged: 2: .* is missing; mend one"):
        newest(copy)
    assert digests.all_steps(copy) == [1, 2]


def test_a_first_save_that_was_cut_off_is_no_reason_to_refuse(copy):
    shutil.rmtree(copy / "2")
    (copy / "1" / "digests.0-of-1.json").unlink()
    assert newest(copy) is None
    assert (copy / "1.damaged").is_dir()


def test_an_older_checkpoint_goes_only_once_the_newer_is_sealed(tmp_path, monkeypatch):
    """Tried: removal before the digests are there; no checkpoint is then left."""
    folder = checkpoints_of(tmp_path, steps=(1,), keep=1)
    checkpoints = checkpoint.Checkpoints(folder, keep=1)
    monkeypatch.setattr(digests, "seal", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    checkpoints.save(2, state_of(2.0), {})
    with pytest.raises(checkpoint.SaveFailed, match=r"step 2 could not be saved: no space left; .* is step 1"):
        checkpoints.wait()
    checkpoints.close()
    assert checkpoint.steps_in(tmp_path) == [1]
    assert newest(folder) == 1


def test_a_damaged_checkpoint_does_not_count_among_those_kept(tmp_path):
    folder = checkpoints_of(tmp_path, steps=(1, 2), keep=2)
    (folder / "2" / "digests.0-of-1.json").unlink()
    checkpoints = checkpoint.Checkpoints(folder, keep=2)
    checkpoints.save(3, state_of(3.0), {})
    checkpoints.close()
    assert digests.all_steps(folder) == [1, 3]


def test_another_type_is_refused_by_name(copy):
    like = state_of(0.0)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), like.params)
    like, mesh = like._replace(params=half), sharding.make_mesh({"fsdp": -1})
    checkpoints = checkpoint.Checkpoints(copy)
    with pytest.raises(ValueError, match=r"params/encoder/blocks/up/kernel is .* float32 there and .* bfloat16"):
        checkpoints.restore(2, placed(like, mesh, "replicated"))
    checkpoints.close()


def test_what_a_process_left_while_removing_is_removed_by_the_next(copy):
    (copy / "1").rename(copy / "1.deleted")
    assert newest(copy) == 2
    assert not (copy / "1.deleted").exists()


@pytest.fixture
def nothing_goes(monkeypatch):
    """`shutil.rmtree` fails where a file is open elsewhere, as on NFS, while entered."""

    def rmtree(path, ignore_errors=False):
        if not ignore_errors:
            raise OSError(errno.ENOTEMPTY, "Directory not empty", f"{path}/state/.nfs0001")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", rmtree)
        yield patched


def test_what_cannot_be_removed_is_said_once_and_ends_neither_a_run_nor_a_start(tmp_path, nothing_goes, caplog):
    folder = checkpoints_of(tmp_path, steps=(1, 2, 3), keep=1)
    assert digests.all_steps(folder) == [3]
    assert {path.name for path in folder.glob("*.deleted")} == {"1.deleted", "2.deleted"}
    for step in (1, 2):
        assert caplog.text.count(f"{step}.deleted cannot be removed now and is tried again later: [Errno 39]") == 1
    assert newest(folder) == 3
    nothing_goes.undo()
    checkpoints = checkpoint.Checkpoints(folder, keep=1)
    checkpoints.close()
    assert [path.name for path in folder.iterdir()] == ["3"]


def test_it_is_tried_again_after_the_next_save(tmp_path, nothing_goes):
    """Also if the run takes the same steps again meanwhile, and retires them under the same names."""
    folder = checkpoints_of(tmp_path, steps=(1, 2), keep=1)
    os.rename(folder / "2", folder / "2.damaged")
    checkpoints_of(tmp_path, steps=(1, 3), keep=1)
    assert {path.name for path in folder.glob("*.deleted")} == {"1.deleted", "1.deleted.deleted"}
    checkpoints = checkpoint.Checkpoints(folder, keep=1)
    nothing_goes.undo()
    checkpoints.save(4, state_of(4.0), {})
    checkpoints.close()
    assert {path.name for path in folder.iterdir()} == {"2.damaged", "4"}


def test_a_checkpoint_that_cannot_even_be_renamed_stays_until_it_can(tmp_path, monkeypatch, caplog):
    folder = checkpoints_of(tmp_path, steps=(1,))
    checkpoints = checkpoint.Checkpoints(folder, keep=1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", busy("1"))
        for step in (2, 3):
            checkpoints.save(step, state_of(float(step)), {})
            checkpoints.wait()
    assert digests.all_steps(folder) == [1, 3]
    assert caplog.text.count("checkpoints/1 cannot be removed now and is tried again later: [Errno 16]") == 1
    checkpoints.save(4, state_of(4.0), {})
    checkpoints.close()
    assert digests.all_steps(folder) == [4]


def busy(name, really=os.rename):
    """`os.rename`, which fails for one folder."""

    def rename(source, target, **more):
        if Path(source).name == name:
            raise OSError(errno.EBUSY, "Device or resource busy", str(source))
        really(source, target, **more)

    return rename


def test_a_damaged_checkpoint_that_cannot_be_set_aside_holds_nothing_up(copy, monkeypatch, caplog):
    """It is set aside before its step is saved again."""
    files(copy / "2" / "state")[0].unlink()
    checkpoints = checkpoint.Checkpoints(copy)
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", busy("2"))
        assert checkpoints.latest() == 1
    assert "checkpoints/2 cannot be set aside now" in caplog.text
    assert digests.all_steps(copy) == [1, 2]
    checkpoints.save(2, state_of(2.0), {})
    checkpoints.close()
    assert newest(copy) == 2
    assert (copy / "2.damaged").is_dir()


def test_a_checkpoint_in_which_systems_left_files_is_read(copy):
    for where in (copy, copy / "2", copy / "2" / "state", copy / "2" / "state" / "d"):
        (where / ".DS_Store").touch()
        (where / "Thumbs.db").touch()
    assert checkpoint.find(str(copy.parent)) == (copy.parent, 2)
    (scale,) = checkpoint.load_parts(copy.parent, 2, [("params", "encoder")])
    np.testing.assert_array_equal(scale["scale"], np.full(3, 2.0))
    checkpoints = checkpoint.Checkpoints(copy)
    like, mesh = state_of(0.0), sharding.make_mesh({"fsdp": -1})
    state, _ = checkpoints.restore(checkpoints.latest(), placed(like, mesh, "replicated"))
    checkpoints.close()
    assert float(state.params["encoder"]["scale"][0]) == 2.0


def test_a_save_that_was_cut_off_is_removed_or_out_of_the_way(copy, nothing_goes):
    left = copy / "3.orbax-checkpoint-tmp"
    left.mkdir()
    checkpoints = checkpoint.Checkpoints(copy)
    checkpoints.save(3, state_of(3.0), {})
    checkpoints.close()
    assert newest(copy) == 3
    nothing_goes.undo()
    assert newest(copy) == 3
    assert {path.name for path in copy.iterdir()} == {"1", "2", "3"}


def test_without_locks_tensorstore_takes_none(tmp_path, monkeypatch):
    """Seen on a real run whose locks all failed: without this, no checkpoint can be written there."""
    for context in (tensorstore_utils._BASE_TS_CONTEXT, tensorstore_utils._DEFAULT_OCDBT_TS_CONTEXT):
        monkeypatch.setitem(context, "file_io_locking", {})
    checkpoints_of(tmp_path, steps=(1,))
    assert tensorstore_utils.get_ts_context()["file_io_locking"].to_json() == {}
    monkeypatch.setattr(checkpoint.lock, "works", lambda folder: False)
    folder = checkpoints_of(tmp_path, steps=(2,))
    for use_ocdbt in (True, False):
        locking = tensorstore_utils.get_ts_context(use_ocdbt=use_ocdbt)["file_io_locking"]
        assert locking.to_json() == {"mode": "none"}
    assert newest(folder) == 2


def test_saving_goes_on_behind_the_steps(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, state_of(1.0), {})
    deadline = time.monotonic() + 60
    while checkpoint.steps_in(tmp_path) != [1] and time.monotonic() < deadline:
        checkpoints.poll()
        time.sleep(0.01)
    assert checkpoint.steps_in(tmp_path) == [1]
    checkpoints.close()
