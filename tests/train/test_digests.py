"""Every way in which files of a checkpoint may differ from those that were saved has its words."""

import json
import shutil
import subprocess
import sys

import pytest

from facerep_jax.train import digests


@pytest.fixture
def folder(tmp_path):
    """A checkpoint of two processes, sealed by both."""
    folder = tmp_path / "12"
    for name in ("state/manifest", "state/ocdbt.process_0/d/a", "state/ocdbt.process_1/d/b", "meta/metadata"):
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(f"bytes of {name}".encode())
    digests.seal(folder, 1, 2)
    assert not digests.sealed(folder)
    assert "not saved to its end" in digests.fault(folder)
    digests.seal(folder, 0, 2)
    return folder


def test_each_process_answers_for_what_it_wrote(folder):
    first, second = (json.loads((folder / f"digests.{n}-of-2.json").read_text()) for n in (0, 1))
    assert set(second["files"]) == {"state/ocdbt.process_1/d/b"}
    assert set(first["files"]) == {"state/manifest", "state/ocdbt.process_0/d/a", "meta/metadata"}
    assert first["step"] == second["step"] == 12


def test_digests_are_those_of_sha256sum(folder):
    record = json.loads((folder / "digests.0-of-2.json").read_text())["files"]
    for name, (size, digest) in record.items():
        printed = subprocess.run(["sha256sum", folder / name], capture_output=True, text=True, check=True).stdout
        assert printed.split()[0] == digest
        assert (folder / name).stat().st_size == size


def test_a_whole_checkpoint_has_no_fault(folder):
    assert digests.sealed(folder)
    assert digests.fault(folder) == ""


def flip(folder):
    path = folder / "state/ocdbt.process_1/d/b"
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)


def cut(folder):
    path = folder / "meta/metadata"
    path.write_bytes(path.read_bytes()[:-1])


def rename(folder):
    digests_of = folder / "digests.0-of-2.json"
    digests_of.write_text(digests_of.read_text().replace('"step": 12', '"step": 8'))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip, "state/ocdbt.process_1/d/b has other bytes"),
        (cut, "meta/metadata has 21 bytes, not 22"),
        (lambda folder: (folder / "state/manifest").unlink(), "state/manifest is missing"),
        (lambda folder: (folder / "state/more").touch(), "state/more was added"),
        (lambda folder: (folder / "digests.1-of-2.json").unlink(), "not saved to its end"),
        (lambda folder: (folder / "digests.0-of-2.json").write_text("{"), "digests.0-of-2.json cannot be read"),
        (lambda folder: (folder / "digests.0-of-2.json").write_text("[]"), "digests.0-of-2.json cannot be read"),
        (lambda folder: shutil.rmtree(folder / "state"), "state/manifest is missing, state/ocdbt.process_0/d/a is"),
        (rename, "checkpoint of step 8 under the name of another"),
    ],
)
def test_every_fault_is_named(folder, damage, words):
    damage(folder)
    assert words in digests.fault(folder)


LEFT = (
    ".DS_Store",
    "._manifest",
    ".nfs00000000012ab34c0000001f",
    "Thumbs.db",
    "desktop.ini",
    ".~lock.metadata#",
    ".fuse_hidden0000000800000001",
    ".syncthing.manifest.tmp",
    ".__afs1A2B",
    "@eaDir/manifest@SynoEAStream",
    ".Trash-1000/files/manifest",
)


@pytest.mark.parametrize("name", LEFT)
@pytest.mark.parametrize("where", ["", "state", "state/ocdbt.process_1/d"])
def test_what_systems_leave_in_any_folder_is_no_fault(folder, where, name):
    """Neither if it comes after the sealing, nor if it was there and changes or goes."""
    left = folder / where / name
    left.parent.mkdir(parents=True, exist_ok=True)
    left.touch()
    assert digests.fault(folder) == ""
    for process in (0, 1):
        digests.seal(folder, process, 2)
    left.write_bytes(b"more")
    assert digests.fault(folder) == ""
    left.unlink()
    assert digests.fault(folder) == ""


def test_nor_is_a_hidden_file_of_any_other_name_that_came_later(folder):
    (folder / "state/.some-tool").mkdir()
    (folder / "state/.some-tool/cache").touch()
    assert digests.fault(folder) == ""


def test_a_checkpoint_that_was_sealed_with_such_files_is_whole_without_them(folder):
    path = folder / "digests.0-of-2.json"
    record = json.loads(path.read_text())
    record["files"]["state/.DS_Store"] = [1, "0"]
    path.write_text(json.dumps(record))
    assert digests.fault(folder) == ""


def test_a_hidden_file_of_the_checkpoints_own_is_missed(folder):
    """Tried: hidden files that are not sealed."""
    (folder / "state/.zarray").write_bytes(b"{}")
    digests.seal(folder, 0, 2)
    (folder / "state/.zarray").unlink()
    assert digests.fault(folder) == "state/.zarray is missing"


def test_the_reading_can_be_shared(folder):
    flip(folder)
    assert [bool(digests.fault(folder, part, 4)) for part in range(4)].count(True) == 1


def test_an_empty_folder_is_no_checkpoint(tmp_path):
    (tmp_path / "7").mkdir()
    assert not digests.sealed(tmp_path / "7")
    assert digests.fault(tmp_path / "7")


def test_many_faults_are_counted(folder):
    shutil.rmtree(folder / "state")
    shutil.rmtree(folder / "meta")
    assert digests.fault(folder).endswith("and 1 more")


def test_it_imports_no_jax():
    code = "import sys; import facerep_jax.train.digests; assert 'jax' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
