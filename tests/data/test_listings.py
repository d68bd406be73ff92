import numpy as np
import pytest

from facerep_jax.data import listings


def write(tmp_path, content):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    return path


def test_lines_are_numbered_as_editors_number_them(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbfhead\r\n\r\n a b \r\nc")
    assert [*listings.lines(path)] == [
        (f"{path} line 1, ", "head"),
        (f"{path} line 3, ", " a b "),
        (f"{path} line 4, ", "c"),
    ]
    assert [line for _, line in listings.lines(path, skip=1)] == [" a b ", "c"]


def test_rows_have_as_many_words(tmp_path):
    path = write(tmp_path, b"a  1\nb\t2\n")
    assert [*listings.rows(path, 2)] == [["a", "1"], ["b", "2"]]
    assert [*listings.rows(write(tmp_path, b"a, 1\n"), 2, separator=",")] == [["a", "1"]]
    with pytest.raises(ValueError, match="line 2, 2 columns are expected, not 3"):
        [*listings.rows(write(tmp_path, b"a 1\nb 2 3\n"), 2)]


def test_tables_have_headers(tmp_path):
    path = write(tmp_path, b'name,x\n"n, 1", 2\n\n')
    assert [*listings.table(path, "name", "x", exactly=True)] == [(f"{path} line 2, ", {"name": "n, 1", "x": "2"})]
    with pytest.raises(ValueError, match="its header must have name, y, but lacks y"):
        [*listings.table(path, "name", "y")]
    with pytest.raises(ValueError, match="its header must be name, but has x too"):
        [*listings.table(path, "name", exactly=True)]


@pytest.mark.parametrize("read", [listings.lines, lambda path: listings.table(path, "a")])
def test_other_bytes_and_no_file_are_refused(tmp_path, read):
    with pytest.raises(ValueError, match="can't decode byte"):
        [*read(write(tmp_path, b"a\n\xff\xfe\n"))]
    with pytest.raises(FileNotFoundError, match="no file"):
        [*read(tmp_path / "other")]


def test_words_become_numbers_and_points():
    np.testing.assert_array_equal(listings.numbers(["1", "-2.5", "1e3"]), [1, -2.5, 1000])
    np.testing.assert_array_equal(listings.points(["1", "2", "3", "4"], 2), [[1, 2], [3, 4]])
    with pytest.raises(ValueError, match="here: could not convert"):
        listings.numbers(["1", "x"], "here: ")
    with pytest.raises(ValueError, match="here: x and y of 2 points are expected, not 3 numbers"):
        listings.points(["1", "2", "3"], 2, "here: ")
