import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from facerep_jax.data import features

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


def write(folder: Path, version="1.0.0", splits=("train",), values=None, names=features.NAMES):
    records = values or [full(), {"id": "b", "image": picture((3, 5), kind="JPEG")}]
    plan = features.Plan(
        dict.fromkeys(splits, records), lambda v: (v["id"], features.complete(v, names, SIZES)), names, SIZES, META
    )

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "sets"
        VERSION = tfds.core.Version(version)
        url_infos = {}  # noqa: RUF012

        def _info(self):
            return features.info(self, plan)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(records) for split, records in plan.records.items()}

        def _generate_examples(self, records):
            return features.generate(plan, records, beam=False)

    config = tfds.core.BuilderConfig(name="tiny", version=version)
    Builder(data_dir=folder, config=config, file_format="array_record").download_and_prepare()


def by_id(source):
    return {record["id"]: record for record in source}


def test_what_goes_in_comes_out(tmp_path):
    write(tmp_path)
    dataset = features.open_dataset("sets/tiny", tmp_path)
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
    record = by_id(features.open_dataset("sets/tiny", tmp_path).source("train"))[b"b"]
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
    dataset = features.open_dataset("sets/tiny", tmp_path)
    assert dataset.features == ("id", "image", "valence")
    assert set(dataset.source("train")[0]) == {"id", "image", "valence"}


def test_a_part_of_the_features_reads_as_it_does_among_all(tmp_path):
    write(tmp_path)
    whole = features.open_dataset("sets/tiny", tmp_path).source("train")
    part = pickle.loads(pickle.dumps(whole.only({"id", "image", "landmarks", "nothing"})))
    assert len(part) == len(whole)
    for one, all_of_it in zip(part, whole, strict=True):
        assert set(one) == {"id", "image", "landmarks"}
        np.testing.assert_equal(one, {name: all_of_it[name] for name in one})


def test_order_does_not_depend_on_the_order_of_writing(tmp_path):
    values = [{"id": str(i), "image": picture()} for i in range(20)]
    write(tmp_path / "a", values=values, names=("id", "image"))
    write(tmp_path / "b", values=values[::-1], names=("id", "image"))
    ids = [[r["id"] for r in features.open_dataset("sets/tiny", tmp_path / d).source("train")] for d in "ab"]
    assert ids[0] == ids[1]


def test_the_newest_version_is_opened(tmp_path):
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        write(tmp_path, version)
    (tmp_path / "sets/tiny/2.0.0").mkdir()  # holds nothing
    (tmp_path / "sets/tiny/draft.1.x").mkdir()
    assert features.open_dataset("sets/tiny", tmp_path).path.name == "1.10.0"


def test_splits_come_in_their_order(tmp_path):
    write(tmp_path, splits=("test", "validation", "train"))
    assert list(features.open_dataset("sets/tiny", tmp_path).splits) == ["train", "validation", "test"]


def test_source_is_read_in_another_process(tmp_path):
    write(tmp_path)
    source = features.open_dataset("sets/tiny", tmp_path).source("train")
    code = "import pickle, sys; s = pickle.load(sys.stdin.buffer); print(len(s), sorted(r['id'].decode() for r in s))"
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, input=pickle.dumps(source), capture_output=True, check=True, env={"PYTHONUTF8": "1"})
    assert out.stdout.decode().strip() == "2 ['a/é.png', 'b']"


def test_unknown_split_is_an_error_that_lists_the_others(tmp_path):
    write(tmp_path, splits=("train", "test"))
    dataset = features.open_dataset("sets/tiny", tmp_path)
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
        ("nothing", "facerep prepare knows generated_faces, manifest"),
    ],
)
def test_a_set_that_is_not_there_says_how_to_prepare_it(tmp_path, name, command):
    write(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        features.open_dataset(name, tmp_path)
    assert f"data set {name!r} is not prepared in {tmp_path}" in str(error.value)
    assert command in str(error.value)
    assert "\n" not in str(error.value)


def test_buckets_are_refused():
    with pytest.raises(ValueError, match="gs:// is not supported"):
        features.open_dataset("manifest/faces", "gs://bucket/data")


def test_nothing_imports_tensorflow_or_beam():
    code = "import sys, facerep_jax.prepare; print({'tensorflow', 'apache_beam', 'jax'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert out.stdout.strip() == "set()"
