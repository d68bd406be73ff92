import zipfile
from pickle import dumps

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from facerep_jax.data import sample_ids
from tests.data.laion import FIRST

IDS = [FIRST + 5, FIRST, FIRST + 9, FIRST]


def write(folder, kind):
    path = folder / f"ids{kind}"
    match kind:
        case ".txt":
            path.write_text("".join(f"{value}\n" for value in IDS) + "\n")
        case ".csv":
            path.write_text("SAMPLE_ID,URL\n" + "".join(f'"{value}.0",http://x/,y\n' for value in IDS))
        case ".npy":
            np.save(path, np.array(IDS, np.float64))
        case ".parquet":
            table = {"URL": ["x"] * 5, "SAMPLE_ID": [*map(float, IDS), None]}
            pyarrow.parquet.write_table(pyarrow.table(table), path)
        case ".pth":  # as LAION-Face's: a list of each part
            with zipfile.ZipFile(path, "w") as file:
                file.writestr("archive/data.pkl", dumps([IDS[:2], set(), list(map(float, IDS[2:]))], 2))
    return path


@pytest.mark.parametrize("kind", [".txt", ".csv", ".npy", ".parquet", ".pth"])
def test_ids_are_read_from_what_holds_them(tmp_path, kind):
    path = write(tmp_path, kind)
    found = sample_ids.read(sample_ids.files_of("safe_ids", str(path)))
    np.testing.assert_array_equal(found, np.array([FIRST, FIRST + 5, FIRST + 9]), strict=True)
    assert [sample_ids.contains(found, FIRST + n) for n in (0, 1, 9, 10)] == [True, False, True, False]


def test_a_pattern_or_a_folder_names_several_files(tmp_path):
    for kind in (".txt", ".csv"):
        write(tmp_path, kind)
    for pattern in (tmp_path, tmp_path / "*.?[xs]?"):
        assert [path.suffix for path in sample_ids.files_of("safe_ids", str(pattern))] == [".csv", ".txt"]
    with pytest.raises(FileNotFoundError, match=r"safe_ids=.*/none: no such file"):
        sample_ids.files_of("safe_ids", str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"1\n2.5\n", r"a\.txt: line 2: a SAMPLE_ID is an integer of 64 bits, not '2.5'"),
        ("a.zip", b"", r"a\.zip: ids are read from"),
        ("a.npy", b"no array", r"a\.npy: "),
        ("a.parquet", b"PAR1 no table PAR1", r"a\.parquet: "),
        ("a.txt", b"\xff\xfe", r"a\.txt: "),
    ],
)
def test_another_file_is_an_error_that_names_it(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as told:
        sample_ids.read([path])
    assert "\n" not in str(told.value)


def test_a_table_without_ids_names_its_columns(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"url": ["x"]}), path)
    with pytest.raises(ValueError, match="a column SAMPLE_ID is expected among url"):
        sample_ids.read([path])
