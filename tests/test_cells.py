"""Cells: when they are done, what ends with them, and what is said of one that fails."""

import json
import subprocess
import sys

import pytest

from facerep_jax import cells
from facerep_jax.cells import Cell


def test_a_cell_is_not_done_for_what_was_made_anew_since(tmp_path):
    trained = Cell(tmp_path / "trained", ("pretrain", "--config=a.py"))
    judged = Cell(tmp_path / "judged", ("evaluate", "--config=b.py"), (trained.folder,))
    for cell in (trained, judged):
        cell.folder.mkdir()
        cells.record(cell, 1.0)
        assert cells.is_done(cell)
    (trained.folder / cells.DONE).unlink()
    with pytest.raises(ValueError, match=r"judged comes of an earlier .*trained than the one that is there; remove it"):
        cells.is_done(judged)
    cells.record(trained, 1.0)
    with pytest.raises(ValueError, match=r"judged comes of an earlier .*trained than the one that is there; remove it"):
        cells.is_done(judged)
    cells.record(judged, 1.0)
    assert cells.is_done(judged)


def test_cells_that_do_not_say_when_they_were_done_stay_done(tmp_path):
    """Those of before that was written down."""
    trained = Cell(tmp_path / "trained", ("pretrain", "--config=a.py"))
    judged = Cell(tmp_path / "judged", ("evaluate", "--config=b.py"), (trained.folder,))
    for cell in (trained, judged):
        cell.folder.mkdir()
        (cell.folder / cells.DONE).write_text(json.dumps({"arguments": list(cell.arguments), "seconds": 1.0}))
    assert cells.is_done(judged)


def test_a_cell_that_fails_without_a_word_has_its_status(tmp_path):
    assert cells.run_all([Cell(tmp_path / "a", ("evaluate",))], 1, lambda cell, jobs: 3) == 3


@pytest.mark.parametrize("end", ["close", "kill"])
def test_a_command_ends_with_the_process_that_wanted_it(tmp_path, end):
    """By SIGTERM, for which a pre-training saves its state."""
    told = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit('told to end'))"
    here = f"{told}; import time; from facerep_jax import attended, cli; cli.main = lambda: time.sleep(100); "
    command = [sys.executable, "-c", here + "print('begun', flush=True); attended.main()"]
    if end == "close":
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert child.stdout.readline() == b"begun\n"
        _, error = child.communicate(timeout=60)
        assert error == b"told to end\n"
        return
    wants = f"import subprocess; subprocess.Popen({command!r}, stdin=subprocess.PIPE).wait()"
    parent = subprocess.Popen([sys.executable, "-c", wants], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert parent.stdout.readline() == b"begun\n"
    parent.kill()
    assert parent.communicate(timeout=60)[1] == b"told to end\n"  # all that holds its stderr has ended
