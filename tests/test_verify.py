import hashlib
import json

import pytest

from facerep_jax import cli
from facerep_jax.train import digests


@pytest.fixture
def workdir(tmp_path):
    """A run of two checkpoints, as its files lie."""
    (tmp_path / "frozen.safetensors").write_bytes(b"codes")
    digest = hashlib.sha256(b"codes").hexdigest()
    for step in (4, 12):
        folder = tmp_path / "checkpoints" / str(step)
        for name in ("state", "meta"):
            (folder / name).mkdir(parents=True)
        (folder / "state" / "d").write_bytes(b"x" * 1000)
        (folder / "meta" / "metadata").write_text(json.dumps({"frozen": {"frozen.safetensors": digest}}))
        digests.seal(folder)
    return tmp_path


def verify(workdir):
    return cli.main(["facerep", "verify", str(workdir)])


def test_whole_checkpoints(workdir, capsys):
    assert verify(workdir) == 0
    assert capsys.readouterr().out == "step 4: whole, 2 files of 0.0 MB\nstep 12: whole, 2 files of 0.0 MB\n"


def test_a_damaged_one_is_named(workdir, capsys):
    (workdir / "checkpoints" / "4" / "state" / "d").write_bytes(b"x" * 999 + b"y")
    assert verify(workdir) == 1
    assert capsys.readouterr().out.startswith("step 4: state/d has other bytes\nstep 12: whole")


def test_the_frozen_networks_belong_to_it(workdir, capsys):
    (workdir / "frozen.safetensors").write_bytes(b"other")
    assert verify(workdir) == 1
    assert "frozen.safetensors is not what it was trained with" in capsys.readouterr().out
    (workdir / "frozen.safetensors").unlink()
    assert verify(workdir) == 1
    assert "frozen.safetensors, which it was trained with, is missing" in capsys.readouterr().out


def test_no_checkpoints_are_bad_input(tmp_path, capsys):
    assert verify(tmp_path / "nowhere") == 2
    assert capsys.readouterr().err.startswith("facerep verify: no checkpoint in")
    assert cli.main(["facerep", "verify"]) == 2
    assert "which run? facerep verify WORKDIR" in capsys.readouterr().err
