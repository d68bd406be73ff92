import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from facerep_jax.data import records
from facerep_jax.data.images import png


def plan(**more):
    return records.Plan({"train": [0]}, lambda i: (str(i), {}), ("id", "image"), {}, {}, **more)


def test_an_example_is_completed_by_missing_values():
    image = png(Image.new("RGB", (5, 4)))
    more = {"template": (np.int32, ()), "pose": (np.float32, (3,))}
    names = ("id", "image", "caption", "oracle_caption", "mask", "landmarks", "identity", "template", "pose")
    found = records.complete({"id": "a", "image": image, "template": 3}, names, {"landmarks": 2}, more)
    assert tuple(found) == names
    assert (found["id"], found["image"], found["caption"], found["oracle_caption"]) == ("a", image, [], "")
    mask = np.asarray(Image.open(io.BytesIO(found["mask"])))
    assert mask.shape == (4, 5)
    assert (mask == 255).all()
    assert np.isnan(found["landmarks"]).all()
    assert found["identity"] == -1
    assert (found["template"], found["template"].dtype) == (3, np.int32)
    assert np.isnan(found["pose"]).all()


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"Pairs": {"a": [1]}}, "a table's name is of a to z, 0 to 9 and _, not 'Pairs'"),
        ({"../x": {"a": [1]}}, r"a table's name is .*, not '\.\./x'"),
        ({"pairs": {"a": [1, 2], "b": [1]}}, "table 'pairs' must have columns of one length, not a 2, b 1"),
        ({"pairs": {}}, "table 'pairs' must have columns of one length, not none"),
    ],
)
def test_a_table_that_is_none(tables, message):
    with pytest.raises(ValueError, match=message):
        plan(tables=tables)


def test_a_plan_checks_the_features_that_it_adds():
    with pytest.raises(ValueError, match="feature 'bbox' must be an identifier that is none of"):
        dataclasses.replace(plan(), more={"bbox": (np.float32, (4,))})


def test_one_builder_writes_under_any_name(tmp_path):
    image = png(Image.new("RGB", (5, 4)))
    given = dataclasses.replace(
        plan(mapped=lambda f, items: [f(item) for item in items]),
        example=lambda i: (str(i), {"id": str(i), "image": image}),
    )
    for family, version in (("one", "1.0.0"), ("other", "2.1.0")):
        builder = records.Builder(given, family=family, name="x", version=version, data_dir=tmp_path)
        builder.download_and_prepare()
        assert (tmp_path / family / "x" / version / "dataset_info.json").is_file()
