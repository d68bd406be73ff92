"""Things that are no faces. Planted and seen red: views that share a background."""

import pytest

from facerep_jax.data.datasets import generated_objects
from facerep_jax.data.library import open_dataset
from facerep_jax.data.transforms import decode_image

SMALL = "size=48,train=12,validation=4,test=4,views=4,seed=3"


def test_things_are_seen_in_several_views_and_no_split_shares_one():
    dataset = open_dataset(f"generated_objects:{SMALL}", "nowhere")
    assert dataset.splits == {"train": 12, "validation": 4, "test": 4}
    records = {split: list(dataset.source(split)) for split in dataset.splits}
    labels = {split: [int(record["identity"]) for record in each] for split, each in records.items()}
    assert labels == {"train": [0] * 4 + [1] * 4 + [2] * 4, "validation": [3] * 4, "test": [4] * 4}
    assert len(dataset.meta["identities"]) == 5
    images = [decode_image(record["image"]) for record in records["train"]]
    assert len({image.tobytes() for image in images}) == 12
    assert images[0].shape == (48, 48, 3)
    for record, image in zip(records["train"], images, strict=True):
        x0, y0, x1, y1 = record["bbox"]
        assert -0.5 <= x0 < x1 <= 47.5
        assert -0.5 <= y0 < y1 <= 47.5
        assert image.std() > 5
        assert set(record["attributes"]) <= {0, 1}
    of_thing = [record["attributes"].tolist() for record in records["train"][:4]]
    assert all(each == of_thing[0] for each in of_thing)


def test_the_same_request_gives_the_same_images():
    request = generated_objects.read(SMALL, None)
    plan, again = (generated_objects.plan(request) for _ in range(2))
    one, other = (p.example(p.records["train"][5])[1]["image"] for p in (plan, again))
    assert one == other
    assert request.digest == generated_objects.read(SMALL, None).digest
    assert request.digest != generated_objects.read(SMALL.replace("seed=3", "seed=4"), None).digest


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("size=16", "size must be between 32 and 256"),
        ("views=0", "views must be at least 1"),
        ("train=0,validation=0,test=0", "at least one of train"),
        ("train=-1", "train must be between 0"),
    ],
)
def test_a_wrong_request_is_named(arg, message):
    with pytest.raises(ValueError, match=message):
        generated_objects.read(arg, None)


def test_no_folder_is_taken(tmp_path):
    with pytest.raises(ValueError, match="takes no --manual_dir"):
        generated_objects.read(None, tmp_path)
