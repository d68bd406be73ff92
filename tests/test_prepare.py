import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from absl import flags
from PIL import Image

from facerep_jax import prepare
from facerep_jax.data import datasets
from facerep_jax.data.library import open_dataset

CHILD = """
import sys
from absl import flags
from facerep_jax import prepare
values = flags.FlagValues()
prepare.define_flags(values, sys.argv)
prepare.run(values, values(sys.argv)[1:])
"""


def run(*words):
    values = flags.FlagValues()
    argv = ["facerep prepare", *map(str, words)]
    prepare.define_flags(values, argv)
    return prepare.run(values, values(argv)[1:])


def write(folder: Path, count=4, **more):
    """A manifest of small pictures, the last of them for the test."""
    folder.mkdir(exist_ok=True)
    lines = []
    for i in range(count):
        Image.effect_noise((8, 8), 50 + i).convert("RGB").save(folder / f"{i}.jpg")
        lines.append({"image": f"{i}.jpg", "split": "test" if i == count - 1 else "train", **more})
    (folder / "faces.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def raw(tmp_path) -> Path:
    return write(tmp_path / "raw", caption="a face")


@pytest.fixture
def data(tmp_path) -> Path:
    return tmp_path / "data"


def contents(folder: Path):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def hidden(data: Path):
    return list(data.glob(".*"))


def test_a_manifest_becomes_a_data_set(raw, data, capsys):
    run("manifest", "--manual_dir", raw, "--data_dir", data, "--name", "mine")
    dataset = open_dataset("manifest/mine", data)
    assert dataset.splits == {"train": 3, "test": 1}
    assert dataset.meta["counts"] == dataset.splits
    assert dataset.meta["version"] == "1.0.0"
    record = dataset.source("test")[0]
    assert record["image"] == (raw / "3.jpg").read_bytes()
    assert record["caption"] == [b"a face"]
    out = capsys.readouterr()
    assert out.out == (
        f"manifest/mine: 4 faces in {data}/manifest/mine/1.0.0 (train 3, test 1)\nfeatures: id, image, caption\n"
    )
    assert out.err == ""
    assert hidden(data) == []


def test_names_have_defaults(raw, data):
    run("manifest", "--manual_dir", raw, "--data_dir", data)
    run("generated_faces:size=32,train=2,validation=0,test=1", "--data_dir", data)
    assert open_dataset("manifest/faces", data).splits == {"train": 3, "test": 1}
    assert open_dataset("generated_faces/default", data).splits == {"train": 2, "test": 1}


def test_the_same_input_again_rewrites_nothing(raw, data, capsys):
    run("manifest", "--manual_dir", raw, "--data_dir", data)
    before = contents(data)
    capsys.readouterr()
    run("manifest", "--manual_dir", raw, "--data_dir", data)
    run("manifest", "--manual_dir", raw, "--data_dir", data, "--overwrite")
    assert contents(data) == before
    assert capsys.readouterr().out.count("Prepared already, from the same input.") == 2


def test_another_input_needs_overwrite(raw, data):
    run("manifest", "--manual_dir", raw, "--data_dir", data)
    before = contents(data)
    write(raw, 6)
    with pytest.raises(ValueError, match=r"1\.0\.0 was prepared from another input, or by .*; give --overwrite"):
        run("manifest", "--manual_dir", raw, "--data_dir", data)
    assert contents(data) == before
    run("manifest", "--manual_dir", raw, "--data_dir", data, "--overwrite")
    assert open_dataset("manifest/faces", data).splits == {"train": 5, "test": 1}
    assert hidden(data) == []


DAMAGE = {
    "a shard is gone": ("manifest-test.array_record-00000-of-00001", Path.unlink),
    "a shard is cut": ("manifest-test.array_record-00000-of-00001", lambda path: os.truncate(path, 2**16)),
    "dataset_info.json is empty": ("dataset_info.json", lambda path: os.truncate(path, 0)),
    "dataset_info.json is gone": ("dataset_info.json", Path.unlink),
}


@pytest.mark.parametrize(("file", "damage"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_set_is_prepared_again_by_overwrite(raw, data, file, damage, capsys):
    """Tried: the digest alone compared."""
    run("manifest", "--manual_dir", raw, "--data_dir", data)
    damage(data / "manifest/faces/1.0.0" / file)
    with pytest.raises(ValueError, match=rf"is damaged \(.*{file}.*\): prepare it again with --overwrite"):
        run("manifest", "--manual_dir", raw, "--data_dir", data)
    run("manifest", "--manual_dir", raw, "--data_dir", data, "--overwrite")
    assert "Prepared already" not in capsys.readouterr().out
    dataset = open_dataset("manifest/faces", data)
    assert [len(dataset.source(split)) for split in dataset.splits] == [3, 1]
    assert hidden(data) == []


def test_a_failed_overwrite_keeps_the_old_set(raw, data):
    run("manifest", "--manual_dir", raw, "--data_dir", data)
    before = contents(data)
    (raw / "0.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="1 of 4 images are rejected"):
        run("manifest", "--manual_dir", raw, "--data_dir", data, "--overwrite")
    assert before.items() <= contents(data).items()


def test_broken_images_are_listed(raw, data, capsys):
    (raw / "1.jpg").write_bytes((raw / "1.jpg").read_bytes()[:-20])
    run("manifest", "--manual_dir", raw, "--data_dir", data, "--max_rejected", 0.25)
    dataset = open_dataset("manifest/faces", data)
    assert dataset.splits == {"train": 2, "test": 1}
    (rejected,) = map(json.loads, (dataset.path / "rejected.jsonl").read_text().splitlines())
    assert rejected == {"line": 2, "id": "1.jpg", "image": "1.jpg", "reason": "Premature end of JPEG file"}
    assert f"1 of 4 images rejected, see {dataset.path}/rejected.jsonl" in capsys.readouterr().out


def test_too_many_broken_images_stop_it(raw, data):
    (raw / "1.jpg").write_bytes(b"text")
    listing = data / "manifest/faces.rejected.jsonl"
    message = (
        "1 of 4 images are rejected, --max_rejected allows .* 0.01; the first is 1.jpg .line 2.: not an image; .* in "
    )
    with pytest.raises(ValueError, match=message + str(listing)) as error:
        run("manifest", "--manual_dir", raw, "--data_dir", data)
    assert "\n" not in str(error.value)
    assert json.loads(listing.read_text())["line"] == 2
    assert not (data / "manifest/faces").exists()
    assert hidden(data) == []
    with pytest.raises(FileNotFoundError, match="not prepared"):
        open_dataset("manifest/faces", data)
    run("manifest", "--manual_dir", raw, "--data_dir", data, "--max_rejected", 0.5)
    assert not listing.exists()


def test_reasons_of_rejections_are_counted(raw, data, capsys):
    """What is wrong with most lines is told, and not with the first alone."""
    lines = [json.loads(line) for line in (raw / "faces.jsonl").read_text().splitlines()]
    for line in lines[1:]:
        line["bbox"] = [0.25, 0.25, 0.5, 0.75]
    (raw / "faces.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (raw / "0.jpg").write_bytes(b"text")
    reasons = r"the first is 0.jpg \(line 1\): not an image; 3 for another reason: bbox seems to be relative"
    with pytest.raises(ValueError, match=rf"4 of 4 images are rejected.*; {reasons}"):
        run("manifest", "--manual_dir", raw, "--data_dir", data)
    (raw / "0.jpg").write_bytes((raw / "1.jpg").read_bytes())
    with pytest.raises(
        ValueError, match=r"3 of 4 .* is 1.jpg \(line 2\): bbox seems .*; 2 more for the same reason; all"
    ):
        run("manifest", "--manual_dir", raw, "--data_dir", data)
    run("manifest", "--manual_dir", raw, "--data_dir", data, "--max_rejected=1")
    assert open_dataset("manifest/faces", data).splits == {"train": 1}
    assert "rejected.jsonl; the first is 1.jpg (line 2): bbox seems to be relative" in capsys.readouterr().out


def test_odd_annotations_are_warnings(raw, data, capsys):
    write(raw, landmarks=[[-1, -1], [4, 4]])
    run("manifest", "--manual_dir", raw, "--data_dir", data)
    assert "warning: 4 of 4 faces have a landmark at exactly (0, 0) or (-1, -1)" in capsys.readouterr().out


def test_links_out_of_the_folder_need_a_flag(raw, data, tmp_path):
    """As in the cache of a hub of data sets: a folder of links, whose files lie elsewhere."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for path in raw.iterdir():
        (snapshot / path.name).symlink_to(path)
    with pytest.raises(ValueError, match=r"line 1, image: '0.jpg' is a link to .*; give --follow_links to read it"):
        run("manifest", "--manual_dir", snapshot, "--data_dir", data)
    assert not data.exists()
    run("manifest", "--manual_dir", snapshot, "--data_dir", data, "--follow_links")
    dataset = open_dataset("manifest/faces", data)
    assert dataset.source("test")[0]["image"] == (raw / "3.jpg").read_bytes()


def test_a_tilde_is_the_home_folder(raw, data, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run("manifest", "--manual_dir=~/raw", "--data_dir=~/data")
    assert open_dataset("manifest/faces", "~/data").path == open_dataset("manifest/faces", data).path
    with pytest.raises(FileNotFoundError, match=f"not prepared in {data}; run: .* --data_dir {data}"):
        open_dataset("manifest/other", "~/data")


def test_a_split_without_images_is_left_out(raw, data):
    (raw / "3.jpg").write_bytes(b"text")
    run("manifest", "--manual_dir", raw, "--data_dir", data, "--max_rejected", 0.5)
    assert open_dataset("manifest/faces", data).splits == {"train": 3}


def test_a_set_without_images_is_an_error(raw, data):
    for i in range(4):
        (raw / f"{i}.jpg").write_bytes(b"text")
    with pytest.raises(ValueError, match="4 of 4 images are rejected"):
        run("manifest", "--manual_dir", raw, "--data_dir", data, "--max_rejected", 1)


@pytest.mark.parametrize("name", datasets.names())
def test_a_data_set_is_a_module_with_five_names(name):
    module = datasets.load(name)
    for part in ("NAME", "RAW", "VERSION", "read", "plan"):
        assert hasattr(module, part)
    assert datasets.family_of(name) == name


WRONG = {
    "no word": ([], "one DATASET.* is expected, not none; facerep datasets lists them"),
    "two words": (["manifest", "again"], "one DATASET.* is expected, not manifest again"),
    "data set": (["manifset"], "no data set 'manifset'; did you mean 'manifest'?"),
    "argument": (["manifest:a=1"], "takes no arguments after the colon"),
    "empty argument": (["manifest:"], "takes no arguments after the colon, but got ''"),
    "name": (["manifest", "--name", "../x"], "--name must be a letter followed by .*, not '../x'"),
    "no raw": (["manifest"], "'manifest' needs --manual_dir"),
    "no manifest": (["manifest", "--manual_dir", "nowhere"], "no faces.jsonl in nowhere"),
    "fraction": (["manifest", "--max_rejected", "3"], "--max_rejected must be a fraction between 0 and 1, not 3.0"),
    "bucket": (["manifest", "--data_dir", "gs://b/x"], "--data_dir gs://b/x: gs:// is not supported"),
    "raw bucket": (["manifest", "--manual_dir", "s3://b/x"], "--manual_dir s3://b/x: s3:// is not supported"),
    "quotes": (["manifest", "--beam_options", "--a='"], "--beam_options: No closing quotation"),
}


@pytest.mark.parametrize(("words", "message"), WRONG.values(), ids=WRONG)
def test_wrong_usage_is_one_line(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        run("--data_dir", "data", *words)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_line_leaves_nothing_behind(raw, data):
    with open(raw / "faces.jsonl", "a") as file:
        file.write('{"image": "0.jpg", "id": "x", "vertices": "v.npy"}\n')
    (raw / "v.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"line 5, vertices: v\.npy is not a readable"):
        run("manifest", "--manual_dir", raw, "--data_dir", data)
    assert list(data.iterdir()) == []


def test_beam_is_an_extra(raw, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)
    with pytest.raises(ValueError, match=r"--beam_options needs Apache Beam: pip install 'facerep_jax\[prepare\]'"):
        run("manifest", "--manual_dir", raw, "--data_dir", data, "--beam_options=")


def child(*words, out=subprocess.PIPE, **options):
    command = [sys.executable, "-c", CHILD, *map(str, words)]
    return subprocess.Popen(command, stdout=out, stderr=out, text=True, **options)


def test_beam_writes_the_same_examples(raw, data, tmp_path):
    """Defect planted: an `example` that dropped the caption under Beam was seen to fail here."""
    words = ("manifest", "--manual_dir", raw, "--data_dir", data, "--name")
    run(*words, "plain")
    beam = child(*words, "beam", "--beam_options=--runner=DirectRunner --direct_num_workers=1")
    out, err = beam.communicate(timeout=120)
    assert beam.returncode == 0, err
    assert out.startswith("manifest/beam: 4 faces in ")
    plain, beam = (open_dataset(f"manifest/{name}", data) for name in ("plain", "beam"))
    assert plain.splits == beam.splits
    assert plain.meta == beam.meta
    for split in plain.splits:
        for a, b in zip(plain.source(split), beam.source(split), strict=True):
            np.testing.assert_equal(a, b)


@pytest.mark.skipif(os.cpu_count() == 1, reason="one core, no workers")
def test_a_killed_run_leaves_nothing_under_the_name(data, tmp_path):
    """Also: nobody stays behind in memory, and the next run clears the disk, without noise or temporary files.

    Defect planted: workers that did not watch their parent were seen to stay.
    """
    name = ("--data_dir", data, "--name", "x")
    first = child("generated_faces:size=256,train=5000", *name, out=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    workers = []
    while len(workers) < 2 or not list(data.glob(".preparing-*/generated_faces/x/*")):
        assert time.monotonic() < deadline
        assert first.poll() is None
        workers = psutil.Process(first.pid).children(recursive=True)
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert not (data / "generated_faces").exists()
    assert len(hidden(data)) == 1
    assert psutil.wait_procs(workers, timeout=20)[1] == []

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    arg = "generated_faces:size=32,train=3,validation=0,test=0"
    again = child(arg, *name, env={**os.environ, "TMPDIR": str(scratch)})
    out, err = again.communicate(timeout=60)
    assert (again.returncode, err) == (0, "")
    assert out.startswith("generated_faces/x: 3 faces in ")
    assert hidden(data) == []
    assert list(scratch.iterdir()) == []


def test_a_live_run_is_left_alone(raw, data):
    """Defect planted: with the lock taken for dead, the other's folder was removed here."""
    ours, others = (data / f".preparing-manifest-{name}" for name in ("faces", "other"))
    for folder in (ours, others):
        folder.mkdir(parents=True)
    with open(others / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run("manifest", "--manual_dir", raw, "--data_dir", data)
        assert hidden(data) == [others]
        with pytest.raises(ValueError, match="manifest/other is being prepared by another process"):
            run("manifest", "--manual_dir", raw, "--data_dir", data, "--name", "other")
    run("manifest", "--manual_dir", raw, "--data_dir", data, "--name", "other")
    assert hidden(data) == []


def test_it_works_on_a_file_system_without_locks(raw, data, monkeypatch, caplog):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    run("manifest", "--manual_dir", raw, "--data_dir", data)
    assert open_dataset("manifest/faces", data).splits == {"test": 1, "train": 3}
    assert "is on a file system without locks" in caplog.text
    assert hidden(data) == []


def test_what_cannot_be_removed_ends_no_run(raw, data, monkeypatch, caplog):
    """Tried: the error of `rmtree` let through; the lock's file open while its folder is removed."""
    leftover = data / ".preparing-0"
    leftover.mkdir(parents=True)
    open_there, real = [], shutil.rmtree

    def rmtree(path, *more, **named):
        if Path(path).name.startswith(".preparing-"):
            open_there.extend(file for file in psutil.Process().open_files() if file.path.startswith(str(path)))
            raise OSError(errno.ENOTEMPTY, "Directory not empty", f"{path}/.nfs0")
        real(path, *more, **named)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", rmtree)
        run("manifest", "--manual_dir", raw, "--data_dir", data)
    assert open_dataset("manifest/faces", data).splits == {"test": 1, "train": 3}
    assert len(hidden(data)) == 2
    assert open_there == []  # NFS keeps what is open, as files .nfs*
    assert caplog.text.count("cannot be removed now ([Errno 39] Directory not empty") == 2
    run("manifest", "--manual_dir", raw, "--data_dir", data, "--name", "other")
    assert hidden(data) == []


def test_a_folder_that_cannot_be_emptied_is_not_written_into(raw, data, monkeypatch):
    stage = data / ".preparing-manifest-faces"
    stage.mkdir(parents=True)
    (stage / "old").touch()

    def rename(self, target):
        raise OSError(errno.EBUSY, "Device or resource busy", str(self))

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(ValueError, match="cannot be emptied and holds old; remove it"):
        run("manifest", "--manual_dir", raw, "--data_dir", data)
