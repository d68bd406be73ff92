"""Tables that are small on disk and would be large in memory."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from facerep_jax.data import parquet, sample_ids
from facerep_jax.data.datasets import laion_face

MEBI = 1 << 20


def write(path, columns, **options):
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd", **options)
    return path


def repeated(path, name, text, rows):
    """A table that has one text in all of its rows, as a column of plain texts."""
    column = pyarrow.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [text])
    return write(path, {name: column, "error_message": column}, store_schema=False)


def peak(path, code):
    """What Arrow has held at once, in bytes, in a process that runs `code` on a file."""
    program = f"import sys, pyarrow; path = sys.argv[1]\n{code}\nprint(pyarrow.default_memory_pool().max_memory())"
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    return int(run.stdout)


def test_a_text_in_a_million_rows_is_held_once(tmp_path):
    """A terabyte, were it read as plain texts. Planted and seen red: texts read as texts."""
    path = repeated(tmp_path / "0.parquet", "status", "x" * MEBI, MEBI)
    assert path.stat().st_size < MEBI // 4
    code = (
        "from collections import Counter; from pathlib import Path; from facerep_jax.data.datasets import laion_face\n"
        "counts = Counter(); laion_face._count_links(Path(path), counts)\n"
        f"if dict(counts) != {{'link: ' + 'x' * 100: {MEBI}}}: raise SystemExit(str(counts)[:300])"
    )
    assert peak(path, code) < 64 * MEBI


def test_ids_in_texts_are_read_by_what_is_different_among_them(tmp_path):
    repeated(tmp_path / "a.parquet", "SAMPLE_ID", "17" + " " * MEBI, 1 << 16)
    np.testing.assert_array_equal(sample_ids.read([tmp_path / "a.parquet"]), [17])
    texts = pyarrow.DictionaryArray.from_arrays(np.array([2, 0, 2]), ["5", "6", "7"])
    write(tmp_path / "b.parquet", {"id": texts})
    np.testing.assert_array_equal(sample_ids.read([tmp_path / "b.parquet"]), [5, 7])  # 6 is in no row


def test_a_page_that_is_large_when_it_is_unpacked_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", {"SAMPLE_ID": ["0" * 4 * MEBI] * 8}, use_dictionary=False)
    assert path.stat().st_size < MEBI
    monkeypatch.setattr(parquet, "LARGEST", 16 * MEBI)
    with pytest.raises(ValueError, match=r"a\.parquet: column SAMPLE_ID takes 32 MiB in a group of rows, more than 16"):
        sample_ids.read([path])
    counts = Counter()
    laion_face._count_links(path, counts)
    assert counts == {"link: a table that cannot be read": 1}


def test_a_file_of_too_many_rows_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", {"SAMPLE_ID": np.zeros(1000, np.int64)})
    np.testing.assert_array_equal(sample_ids.read([path]), [0])
    monkeypatch.setattr(parquet, "ROWS", 999)
    with pytest.raises(ValueError, match="1000 rows, more than 999 of a file are not read"):
        sample_ids.read([path])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"SAMPLE_ID": [[1], [2]]}, "column SAMPLE_ID must hold numbers or texts, not list<"),
        ({"SAMPLE_ID": [{"a": 1}]}, "column SAMPLE_ID must hold numbers or texts, not struct<"),
        ({"SAMPLE_ID": [b"\xff"]}, "a SAMPLE_ID is an integer of 64 bits"),
    ],
)
def test_columns_of_other_kinds_are_refused(tmp_path, columns, message):
    with pytest.raises(ValueError, match=message):
        sample_ids.read([write(tmp_path / "a.parquet", columns)])


def test_links_are_counted_by_status_and_error(tmp_path):
    statuses = ["success", "failed_to_download", None, "failed_to_resize", "success"]
    errors = [None, "HTTP Error 404: Not Found", None, None, ""]
    path = write(tmp_path / "a.parquet", {"status": statuses, "error_message": errors, "url": list("abcde")})
    counts = Counter()
    laion_face._count_links(path, counts)
    expected = {"kept": 2, "HTTP Error 404: Not Found": 1, "no status": 1, "failed_to_resize": 1}
    assert counts == {f"link: {reason}": n for reason, n in expected.items()}
    write(path, {"status": [None, "success"], "error_message": [None, None]})  # as if no link had failed
    counts = Counter()
    laion_face._count_links(path, counts)
    assert counts == {"link: kept": 1, "link: no status": 1}
