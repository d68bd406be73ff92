import os
import subprocess
import sys

import numpy as np
import pytest

from facerep_jax.data import datasets
from facerep_jax.data.library import open_dataset

MODULE = '''
"""Grey squares."""
import functools
import io
from PIL import Image
from facerep_jax.data.records import Plan, complete

NAME, RAW, VERSION = "plain", None, "1.2.0"
NAMES = ("id", "image", "template")
MORE = {"template": (__import__("numpy").int32, ())}

class Raw:
    digest = "fixed"
    def __init__(self, count):
        self.count = count

def read(arg, manual_dir):
    return Raw(int(arg or 3))

def plan(raw):
    pairs = {"a": ["0", "1"], "b": ["1", "2"], "fold": [0, 1]}
    return Plan({"test": range(raw.count)}, example, NAMES, {}, {}, raw.count, more=MORE, tables={"pairs": pairs})

def example(index):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (index, 0, 0)).save(file, "PNG")
    return str(index), complete({"id": str(index), "image": file.getvalue(), "template": 5}, NAMES, {}, MORE)
'''
COMMAND = [sys.executable, "-c", "import sys; from facerep_jax.cli import main; sys.exit(main())"]


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A folder with a package that holds a data set, on Python's path."""
    (tmp_path / "strangers").mkdir()
    (tmp_path / "strangers" / "squares.py").write_text(MODULE)
    (tmp_path / "strangers" / "manifest.py").write_text(MODULE)
    (tmp_path / "strangers" / "half.py").write_text("NAME, RAW = 'x', None\n")
    (tmp_path / "strangers" / "broken.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "strangers"]:
        del sys.modules[name]


def test_a_module_elsewhere_is_found_by_its_path(outside):
    module = datasets.load("strangers.squares")
    assert isinstance(module, datasets.DataSet)
    assert datasets.family_of("strangers.squares") == "squares"
    assert "squares" not in datasets.names()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("strangers.nothing", "no data set 'strangers.nothing': No module named 'strangers.nothing'"),
        ("nobody.squares", "no data set 'nobody.squares': No module named 'nobody'"),
        ("strangers.broken", "no data set 'strangers.broken': No module named 'no_such_package'"),
        ("strangers.half", "strangers.half is no data set: it lacks VERSION, read, plan"),
        ("strangers.manifest", "'manifest' is a data set of facerep_jax.data.datasets; call it otherwise"),
        ("generated_face", r"no data set 'generated_face'; did you mean 'generated_faces'\?"),
    ],
)
def test_what_is_no_data_set_is_one_line(outside, name, message):
    with pytest.raises(ValueError, match=message) as error:
        datasets.load(name)
    assert "\n" not in str(error.value)


def test_it_is_prepared_from_the_working_directory_and_read_without_it(outside):
    """As the installed command is run: Python does not look into the working directory by itself."""
    env = {**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONSAFEPATH": "1"}
    words = ["prepare", "strangers.squares", "--name", "mine", "--data_dir", "data"]
    done = subprocess.run([*COMMAND, *words], cwd=outside, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("squares/mine: 3 faces in data/squares/mine/1.2.0 (test 3)\n")
    assert "features: id, image, template" in done.stdout
    dataset = open_dataset("squares/mine", outside / "data")
    drawn = open_dataset("strangers.squares:3", outside / "data")
    assert not list((outside / "data").glob(".*"))
    for source in (dataset, drawn):
        assert source.features == ("id", "image", "template")
        assert {record["id"]: record["template"] for record in source.source("test")} == {b"0": 5, b"1": 5, b"2": 5}
        assert source.tables == ["pairs"]
        pairs = source.table("pairs")
        assert [*pairs] == ["a", "b", "fold"]
        assert pairs["b"].tolist() == ["1", "2"]
        assert pairs["b"].dtype.kind == "U"
        assert (pairs["fold"].tolist(), pairs["fold"].dtype) == ([0, 1], np.int64)
        with pytest.raises(ValueError, match=r"has no table 'pair'; known: pairs"):
            source.table("pair")
