import os
import pickle
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import pytest

from facerep_jax.data import paths
from facerep_jax.data.datasets.celebamask_hq import Painted
from facerep_jax.data.datasets.cofw import Cell
from facerep_jax.data.paths import find
from facerep_jax.data.pickled import Pickled
from facerep_jax.data.recordio import Record

NFC, NFD = (unicodedata.normalize(form, "Angélica/ü.jpg") for form in ("NFC", "NFD"))


def made(root, name):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return root


@pytest.mark.parametrize(
    ("stored", "written"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("a/b.jpg", r"a\b.jpg"),
        ("a/b.jpg", r".\a\b.jpg"),
        ("a/b.jpg", "a/b.jpg  "),
        ("a/b.jpg", "\ta/b.jpg\r"),
        (NFC, NFD),
        (NFD, NFC),
        (NFD, NFC.replace("/", "\\") + " "),
        ("a b/ c.jpg ", "a b/ c.jpg "),
        (r"a\b.jpg", r"a\b.jpg"),
    ],
)
def test_a_file_is_found_as_other_systems_write_its_name(tmp_path, stored, written):
    assert NFC != NFD
    path, link = find(made(tmp_path, stored), written, "faces.jsonl")
    assert (tmp_path / path).read_bytes() == b"x"
    assert os.path.normpath(path) == os.path.normpath(stored)
    assert link == ""


@pytest.mark.parametrize(
    "path", ["/etc/hosts", "../x.jpg", "a/../../x.jpg", r"..\x.jpg", r"C:\faces\x.jpg", " /etc/hosts"]
)
def test_a_path_out_of_the_folder_is_refused(tmp_path, path):
    with pytest.raises(ValueError, match=r"must be relative to faces\.jsonl and inside its folder"):
        find(made(tmp_path, "a/b.jpg"), path, "faces.jsonl")


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("a/c.jpg", "$"),
        ("a/B.JPG", "; did you mean 'b.jpg', as it is called in .*/a"),
        ("A/b.jpg", "; did you mean 'a', as it is called in "),
        ("blank.jpg", "; did you mean 'blank.jpg ', as it is called in"),
        ("dangling.jpg", ": it is a link to nowhere.jpg, which is not there"),
        ("away/b.jpg", ": it is a link to /nowhere, which is not there"),
        ("b/c/d.jpg", "$"),
        ("a", "$"),
        ("a/b.jpg/c.jpg", "$"),
        ("x" * 5000, "$"),
    ],
)
def test_a_file_that_is_not_there_comes_with_what_is_nearly_called_so(tmp_path, path, hint):
    made(tmp_path, "a/b.jpg")
    made(tmp_path, "blank.jpg ")
    (tmp_path / "dangling.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "away").symlink_to("/nowhere")
    with pytest.raises(FileNotFoundError, match=f"no file '.*' in {tmp_path}{hint}"):
        find(tmp_path, path, "faces.jsonl")


def test_an_address_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'https://x.org/a.jpg' is an address; only files in .* are read"):
        find(tmp_path, "https://x.org/a.jpg", "faces.jsonl")


def test_where_links_lead(tmp_path):
    root, store = made(tmp_path / "raw", "a.jpg"), made(tmp_path / "store", "b.jpg")
    (root / "inside.jpg").symlink_to("a.jpg")
    (root / "outside.jpg").symlink_to(store / "b.jpg")
    (root / "images").symlink_to(store)
    assert find(root, "inside.jpg", "") == ("inside.jpg", "")
    for path in ("outside.jpg", "images/b.jpg"):
        assert find(root, path, "") == (path, str(store / "b.jpg"))


@dataclass(frozen=True)
class Joined:
    files: tuple[str, ...]

    def read(self, folder: Path) -> bytes:
        return b"".join((folder / file).read_bytes() for file in self.files)


def test_a_part_stands_for_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    part = Joined(("b", "a"))
    assert paths.contents(tmp_path, "a") == b"1"
    assert paths.contents(tmp_path, part) == b"21"
    assert (paths.files_of("a"), paths.files_of(part)) == (("a",), ("b", "a"))
    assert isinstance(part, paths.Part)
    assert not isinstance("a", paths.Part)


@pytest.mark.parametrize("part", [Painted(((1, "a"),)), Cell("a", "IsT", 0), Record("a", 8), Pickled("a", 3)])
def test_parts_travel_and_say_what_they_depend_on(part):
    assert isinstance(part, paths.Part)
    assert pickle.loads(pickle.dumps(part)) == part
    assert eval(repr(part)) == part
