import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facerep_jax.data import features, library, records
from facerep_jax.data.library import Kept, Source, open_dataset

SIZES = {"landmarks": 5, "attributes": 1, "action_units": 2, "vertices": 4}
META = {"digest": "abc", "classes": ["background", "skin"]}


def picture(size=(6, 4), mode="RGB", kind="PNG", value=7):
    file = io.BytesIO()
    Image.new(mode, size, value).save(file, kind)
    return file.getvalue()


def full():
    """A value for every feature."""
    rng = np.random.default_rng(0)
    numbers = {
        name: rng.normal(size=features.missing(name, SIZES).shape).astype(np.float32)
        for name, (dtype, _) in features.NUMBERS.items()
        if dtype is np.float32
    }
    return {
        "id": "a/é.png",
        "image": picture(),
        "caption": ("one", "zwölf"),
        "mask": picture(mode="L", value=1),
        "visible": np.array([1, 0, 1, 1, 0]),
        "identity": 3,
        "expression": 0,
        **numbers,
    }


def write(folder: Path, version="1.0.0", splits=("train",), values=None, names=features.NAMES, **more):
    values = values or [full(), {"id": "b", "image": picture((3, 5), kind="JPEG")}]

    def example(v):
        return v["id"], records.complete(v, names, SIZES, more.get("more", {}))

    plan = records.Plan(dict.fromkeys(splits, values), example, names, SIZES, META, **more)
    builder = records.Builder(plan, family="sets", name="tiny", version=version, data_dir=folder)
    builder.download_and_prepare()
    records.write_tables(plan, Path(builder.data_dir))


def by_id(source):
    return {record["id"]: record for record in source}


def test_what_goes_in_comes_out(tmp_path):
    write(tmp_path)
    dataset = open_dataset("sets/tiny", tmp_path)
    assert dataset.features == features.NAMES
    assert dataset.splits == {"train": 2}
    assert dataset.meta == META
    assert dataset.digest == "abc"
    assert dataset.path == tmp_path / "sets/tiny/1.0.0"
    record = by_id(dataset.source("train"))["a/é.png".encode()]
    for name, value in full().items():
        if name == "caption":
            assert record[name] == [caption.encode() for caption in value]
        elif name == "id":
            continue
        elif isinstance(value, bytes):
            assert record[name] == value
        else:
            np.testing.assert_array_equal(record[name], value)
            assert np.shape(record[name]) == np.shape(value)
            if np.ndim(value):
                assert record[name].dtype == features.NUMBERS[name][0]


def test_missing_values_are_nan_minus_one_an_empty_list_and_255(tmp_path):
    write(tmp_path)
    record = by_id(open_dataset("sets/tiny", tmp_path).source("train"))[b"b"]
    assert record["caption"] == []
    assert record["identity"] == record["expression"] == -1
    np.testing.assert_array_equal(record["visible"], [-1] * 5)
    for name, (dtype, _) in features.NUMBERS.items():
        if dtype is np.float32:
            assert np.isnan(record[name]).all(), name
            assert np.shape(record[name]) == features.missing(name, SIZES).shape
    mask = np.asarray(Image.open(io.BytesIO(record["mask"])))
    assert mask.shape == (5, 3)  # that of the image, which is 3 wide and 5 high
    assert (mask == 255).all()


def test_only_the_chosen_features_exist(tmp_path):
    write(tmp_path, names=("id", "image", "valence"))
    dataset = open_dataset("sets/tiny", tmp_path)
    assert dataset.features == ("id", "image", "valence")
    assert set(dataset.source("train")[0]) == {"id", "image", "valence"}


def test_a_part_of_the_features_reads_as_it_does_among_all(tmp_path):
    write(tmp_path)
    whole = open_dataset("sets/tiny", tmp_path).source("train")
    part = pickle.loads(pickle.dumps(whole.only({"id", "image", "landmarks", "nothing"})))
    assert len(part) == len(whole)
    for one, all_of_it in zip(part, whole, strict=True):
        assert set(one) == {"id", "image", "landmarks"}
        np.testing.assert_equal(one, {name: all_of_it[name] for name in one})


def test_order_does_not_depend_on_the_order_of_writing(tmp_path):
    values = [{"id": str(i), "image": picture()} for i in range(20)]
    write(tmp_path / "a", values=values, names=("id", "image"))
    write(tmp_path / "b", values=values[::-1], names=("id", "image"))
    ids = [[r["id"] for r in open_dataset("sets/tiny", tmp_path / d).source("train")] for d in "ab"]
    assert ids[0] == ids[1]


def test_the_newest_version_is_opened(tmp_path):
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        write(tmp_path, version)
    (tmp_path / "sets/tiny/2.0.0").mkdir()  # holds nothing
    (tmp_path / "sets/tiny/draft.1.x").mkdir()
    assert open_dataset("sets/tiny", tmp_path).path.name == "1.10.0"


def test_splits_come_in_their_order(tmp_path):
    write(tmp_path, splits=("test", "validation", "train"))
    assert list(open_dataset("sets/tiny", tmp_path).splits) == ["train", "validation", "test"]


def test_source_is_read_in_another_process(tmp_path):
    write(tmp_path)
    source = open_dataset("sets/tiny", tmp_path).source("train")
    code = "import pickle, sys; s = pickle.load(sys.stdin.buffer); print(len(s), sorted(r['id'].decode() for r in s))"
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, input=pickle.dumps(source), capture_output=True, check=True, env={"PYTHONUTF8": "1"})
    assert out.stdout.decode().strip() == "2 ['a/é.png', 'b']"


def test_unknown_split_is_an_error_that_lists_the_others(tmp_path):
    write(tmp_path, splits=("train", "test"))
    dataset = open_dataset("sets/tiny", tmp_path)
    with pytest.raises(ValueError, match=r"no records in split 'validation'; splits: train \(2\), test \(2\)"):
        dataset.source("validation")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("manifest/faces", "run: facerep prepare manifest --name faces --manual_dir FOLDER --data_dir"),
        ("manifest/mine", "run: facerep prepare manifest --name mine --manual_dir FOLDER --data_dir"),
        ("generated_faces/default", "run: facerep prepare generated_faces --data_dir"),
        ("generated_faces/demo", "run: facerep prepare generated_faces --name demo --data_dir"),
        ("sets/tinny", "or did you mean 'sets/tiny'?"),
        ("nothing", "facerep datasets lists what can be prepared by name"),
    ],
)
def test_a_set_that_is_not_there_says_how_to_prepare_it(tmp_path, name, command):
    write(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        open_dataset(name, tmp_path)
    assert f"data set {name!r} is not prepared in {tmp_path}" in str(error.value)
    assert command in str(error.value)
    assert "\n" not in str(error.value)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def test_a_damaged_set_is_refused_when_it_is_opened(tmp_path):
    """Tried: no look at the records; a look at whether their files are there, and not at how many they hold."""
    write(tmp_path, splits=("train", "test"))
    folder = tmp_path / "sets/tiny/1.0.0"
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    info, shard = folder / "dataset_info.json", folder / "sets-test.array_record-00000-of-00001"
    kept = folder / "sets-train.array_record-00000-of-00001"
    no_json = "is not JSON: Expecting value: line 1 column 1 (char 0)"
    for damage, what in {
        shard.unlink: f"[Errno 2] No such file or directory: '{shard.name}'",
        lambda: cut(shard, 0): f"{shard.name} is cut or holds no records",
        lambda: cut(shard, 2**16): f"{shard.name} is cut or holds no records",
        lambda: cut(shard, -1): f"{shard.name} is cut or holds no records",
        lambda: info.write_text(info.read_text().replace('"2"', '"3"')): f"{kept.name} holds 2 of 3 records",
        lambda: info.write_text("x"): f"dataset_info.json {no_json}",
        lambda: info.write_text(""): f"dataset_info.json {no_json}",
        lambda: info.write_text("{}"): "Invalid version ''",
        lambda: cut(folder / "features.json", 0): f"features.json {no_json}",
        (folder / "metadata.json").unlink: "[Errno 2] No such file or directory: 'metadata.json'",
        lambda: (folder / "metadata.json").write_text("{}"): "metadata.json has no digest",
    }.items():
        damage()
        with pytest.raises(ValueError) as error:
            open_dataset("sets/tiny", tmp_path)
        message = str(error.value)
        assert message.startswith(f"data set 'sets/tiny' in {folder} is damaged ({what}")
        assert message.endswith("): prepare it again with --overwrite")
        for path, data in whole.items():
            path.write_bytes(data)
    assert open_dataset("sets/tiny", tmp_path).splits == {"train": 2, "test": 2}


def test_a_set_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("Permission denied")

    write(tmp_path)
    monkeypatch.setattr(library, "_check_shard", refuse)
    with pytest.raises(PermissionError):
        open_dataset("sets/tiny", tmp_path)


def test_nothing_imports_tensorflow_or_beam():
    code = "import sys, facerep_jax.prepare; print({'tensorflow', 'apache_beam', 'jax'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert out.stdout.strip() == "set()"


def test_features_beside_the_vocabulary_come_last(tmp_path):
    more = {"template": (np.int32, ()), "pose": (np.float32, (3,))}
    values = [
        {"id": "a", "image": picture(), "template": 4, "pose": [1, 2, 3]},
        {"id": "b", "image": picture(), "valence": 0.5},
    ]
    names = ("id", "image", "valence", *more)
    write(tmp_path, values=values, names=names, more=more)
    dataset = open_dataset("sets/tiny", tmp_path)
    assert dataset.features == ("id", "image", "valence", "pose", "template")
    found = by_id(dataset.source("train").only({"id", "template", "pose"}))
    assert found[b"a"]["template"] == 4
    np.testing.assert_array_equal(found[b"a"]["pose"], np.float32([1, 2, 3]))
    assert found[b"b"]["template"] == -1
    assert np.isnan(found[b"b"]["pose"]).all()


def test_tables_are_read_as_they_were_written(tmp_path):
    scores = np.linspace(0, 1, 4, dtype=np.float32)
    tables = {"pairs": {"a": ["x", "y", "z", "é"], "same": [True, False, True, True], "score": scores}}
    write(tmp_path, tables={**tables, "folds": {"fold": np.arange(3)}})
    dataset = open_dataset("sets/tiny", tmp_path)
    assert dataset.tables == ["folds", "pairs"]
    pairs = dataset.table("pairs")
    assert pairs["a"].tolist() == tables["pairs"]["a"]
    assert pairs["same"].dtype == bool
    np.testing.assert_array_equal(pairs["score"], scores)
    assert pairs["score"].dtype == np.float32
    assert dataset.table("folds")["fold"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="data set 'sets/tiny' has no table 'pair'; known: folds, pairs"):
        dataset.table("pair")


def test_sources_are_read_in_part_whatever_they_are(tmp_path):
    write(tmp_path)
    stored = open_dataset("sets/tiny", tmp_path).source("train")
    drawn = open_dataset("generated_faces:size=32,train=2,validation=0,test=0", tmp_path).source("train")
    for source in (stored, drawn, Kept(drawn)):
        assert isinstance(source, Source)
        part = source.only({"id", "landmarks", "nothing"})
        assert set(part[0]) == {"id", "landmarks"}
        assert len(part) == len(source) == 2
        np.testing.assert_array_equal(part[1]["landmarks"], source[1]["landmarks"])


def test_a_family_that_is_not_known_may_be_a_module(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"facerep datasets lists .* modules can by their dotted path"):
        open_dataset("my_set/x", tmp_path)
