import pytest

from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.samples import Sample

FACES = Benchmark(
    name="faces",
    title="Faces",
    tasks=("attributes",),
    source="nowhere",
    raw="a folder",
    counts={"train": 1, "test": 2},
    licence="all rights reserved",
    agreement="signed",
    citation="A et al.",
    subsets={"odd": 1},
)


def gathered(tmp_path, *samples):
    found = []
    for index, (split, odd) in enumerate(samples):
        (tmp_path / f"{index}.jpg").touch()
        found.append(Sample({"image": f"{index}.jpg", "attributes": {"odd": odd}}, split=split))
    return FACES.gather(tmp_path, found, {"attributes": ("odd",)})


def test_a_set_of_its_published_size_has_no_notes(tmp_path):
    raw = gathered(tmp_path, ("train", 1), ("test", 1), ("test", 0))
    assert raw.notes == ()
    assert raw.meta["agreement"] == "signed; cite A et al."
    assert (raw.meta["licence"], raw.meta["research_only"], raw.meta["may_show_images"]) == (FACES.licence, True, False)


def test_splits_and_subsets_of_other_sizes_are_noted(tmp_path):
    raw = gathered(tmp_path, ("train", 1), ("test", 1), ("validation", 1))
    assert raw.notes == (
        "warning: 1 images in split test, but Faces was published with 2",
        "warning: 1 images in split validation, but Faces was published with 0",
    )
    raw = gathered(tmp_path, ("train", 1), ("test", 0), ("test", 0))
    assert raw.notes == ("warning: 0 test images are odd, but Faces was published with 1",)


def test_its_folder_has_to_be_there(tmp_path):
    assert FACES.folder(None, tmp_path) == tmp_path
    with pytest.raises(ValueError, match="takes no arguments after the colon, but got 'a=1'"):
        FACES.folder("a=1", tmp_path)
    with pytest.raises(ValueError, match="data set 'faces' needs --manual_dir: a folder"):
        FACES.folder(None, None)
    with pytest.raises(FileNotFoundError, match="expected a folder"):
        FACES.folder(None, tmp_path / "other")


def test_one_of_several_spellings_is_found(tmp_path):
    (tmp_path / "b").mkdir()
    assert FACES.within(tmp_path, "a", "b") == "b"
    with pytest.raises(FileNotFoundError, match=r"no a or c in .*; expected a folder"):
        FACES.within(tmp_path, "a", "c")
