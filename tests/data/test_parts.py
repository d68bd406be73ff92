"""Sets that are written part by part, by runs that are killed, added to, spread over processes, or that Beam makes.

Planted and seen red: a part's digest without that of its archive.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from facerep_jax import cli
from facerep_jax.data.library import open_dataset
from tests.data.laion import FIRST, face, picture, sample, write_detections, write_tar

ROOT = Path(__file__).parents[2]
ARCHIVES, EACH = 6, 12
SET = "laion_face/default"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Archives of large images, so that to crop their faces takes a while."""
    folder = tmp_path_factory.mktemp("raw")
    for archive in range(ARCHIVES):
        numbers = range(archive * EACH, (archive + 1) * EACH)
        files = {f"{n:09d}": sample(n, image=picture(n, size=(900, 1000))) for n in numbers}
        write_tar(folder / f"{archive:05d}.tar", files)
    faces = {FIRST + n: [face((300, 300, 600, 700))] for n in range(ARCHIVES * EACH)}
    write_detections(folder / "sample2detect_0.pth", faces)
    return folder


def words(raw, data, *flags):
    arguments = f"no_safety_list,detections={raw}/sample2detect_0.pth,crop=align,size=448,alike=0"
    return ["prepare", f"laion_face:{arguments}", f"--manual_dir={raw}", f"--data_dir={data}", *flags]


def child(raw, data, *flags):
    command = [sys.executable, "-m", "facerep_jax.cli", *words(raw, data, *flags)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def contents(data):
    """All of the set: its records in their order, and its other files byte for byte."""
    dataset = open_dataset(SET, data)
    records = [{name: np.asarray(value).tobytes() for name, value in r.items()} for r in dataset.source("train")]
    others = {path.name: path.read_bytes() for path in dataset.path.iterdir() if "array_record" not in path.name}
    return records, others


def files_of_records(data):
    return {path.stat().st_ino for path in open_dataset(SET, data).path.glob("*.array_record*")}


@pytest.fixture(scope="module")
def undisturbed(raw, tmp_path_factory):
    data = tmp_path_factory.mktemp("undisturbed")
    out, err = child(raw, data).communicate(timeout=120)
    assert out.startswith(f"{ARCHIVES * EACH} of {ARCHIVES * EACH} (100.0%) images are kept\n"), err
    return data


def test_each_archive_has_its_records_in_a_file_of_its_own(undisturbed):
    dataset = open_dataset(SET, undisturbed)
    listed = [json.loads(line) for line in (dataset.path / "parts.jsonl").read_text().splitlines()]
    assert [(part["name"], part["file"], part["records"]) for part in listed] == [
        (f"{n:05d}.tar", f"laion_face-train.array_record-{n:05d}-of-{ARCHIVES:05d}", EACH) for n in range(ARCHIVES)
    ]
    ids = [record["id"].decode() for record in dataset.source("train")]
    assert ids == [str(FIRST + n) for n in range(ARCHIVES * EACH)]
    assert not list(undisturbed.glob(".*"))


def test_killed_and_started_again_it_is_as_if_nobody_had(raw, undisturbed, tmp_path):
    """What was done is not done again, and nobody stays behind in memory."""
    kept: dict[str, int] = {}
    for _ in range(2):
        run = child(raw, tmp_path)
        deadline, before = time.monotonic() + 60, set(kept)
        while len(found := {p.name: p.stat().st_ino for p in tmp_path.glob(".parts-*/?*.json")}) <= len(before):
            assert time.monotonic() < deadline
            assert run.poll() is None
            time.sleep(0.002)
        workers = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
        run.stdout.close()
        run.stderr.close()
        assert psutil.wait_procs(workers, timeout=20)[1] == []
        assert not (tmp_path / "laion_face").exists()
        assert kept.items() <= found.items()
        kept = found
    assert len(kept) < ARCHIVES
    records = {path.name: path.stat().st_ino for path in tmp_path.glob(".parts-*/*.array_record")}
    assert cli.main(["facerep", *words(raw, tmp_path)]) == 0
    assert contents(tmp_path) == contents(undisturbed)
    inodes = {path.stat().st_ino for path in open_dataset(SET, tmp_path).path.iterdir()}
    assert {records[f"{name.removesuffix('.json')}.array_record"] for name in kept} <= inodes
    assert not list(tmp_path.glob(".*"))


def test_archives_that_are_added_change_no_other(raw, undisturbed, tmp_path, capsys):
    """Wherever they stand in the order; a changed one is made anew, and one that is gone is left out."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for path in raw.iterdir():
        if path.name not in ("00002.tar", "00003.tar"):
            os.link(path, folder / path.name)
    write_tar(folder / "00003.tar", {"other": sample(3 * EACH, image=picture(999))})
    assert cli.main(["facerep", *words(folder, tmp_path)]) == 0
    before = files_of_records(tmp_path)
    (folder / "00003.tar").unlink()
    os.link(raw / "00003.tar", folder / "00003.tar")
    os.link(raw / "00002.tar", folder / "00002.tar")
    assert cli.main(["facerep", *words(folder, tmp_path)]) == 2
    assert "was prepared from another input" in capsys.readouterr().err
    # Detections lie in the folder of the archives, so that the set's digest is that of the undisturbed one.
    again = [word.replace(f"detections={folder}", f"detections={raw}") for word in words(folder, tmp_path)]
    assert cli.main(["facerep", *again, "--overwrite"]) == 0
    assert contents(tmp_path) == contents(undisturbed)
    assert len(before & files_of_records(tmp_path)) == ARCHIVES - 2


def test_beam_writes_the_same_bytes(raw, undisturbed, tmp_path):
    run = child(raw, tmp_path, "--beam_options=--runner=DirectRunner --direct_num_workers=1")
    _, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert contents(tmp_path) == contents(undisturbed)


def test_records_are_what_one_process_writes(raw, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert cli.main(["facerep", *words(raw, tmp_path)]) == 0
    assert contents(tmp_path) == contents(undisturbed)
    record = open_dataset(SET, tmp_path).source("train")[17]
    np.testing.assert_allclose(record["landmarks"].mean(0), [223.5, 291.76 / 512 * 447], atol=0.1)  # the template's
