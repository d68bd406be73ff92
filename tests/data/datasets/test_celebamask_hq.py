"""Planted and seen red: parts painted in the order of the files' names, l_eye taken for the image's left."""

import numpy as np
import pytest
from PIL import Image

from facerep_jax.config import spec
from facerep_jax.data.pipeline import build_transforms
from facerep_jax.data.transforms import Flip, decode
from tests.data.datasets.drawn import face, prepare, prepared, records, text, write

SIZE = 64  # of images; masks are half as large
# The classes of drawn faces, LaPa's, and the file that shows each: what is left in the image is the person's right.
FILES = {1: "skin", 2: "r_brow", 3: "l_brow", 4: "r_eye", 5: "l_eye", 6: "nose", 7: "u_lip", 9: "l_lip", 10: "hair"}
# Class ids of FaRL's parsing of CelebAMask-HQ, farl.md 3.3.
IDS = {"skin": 2, "l_brow": 6, "r_brow": 7, "l_eye": 8, "r_eye": 9, "nose": 10, "l_lip": 12, "u_lip": 13, "hair": 14}
SPLITS = {0: "0", 1: "2", 2: "1", 2000: "0"}


def originals(index):
    """The class of each pixel as drawn."""
    return face(index % 7, SIZE // 2)["mask"]


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "CelebAMask-HQ"
    for index in SPLITS:
        write(folder / "CelebA-HQ-img" / f"{index}.jpg", face(index % 7, SIZE)["image"])
        for class_id, name in FILES.items():
            part = originals(index) == class_id
            if part.any():
                path = folder / "CelebAMask-HQ-mask-anno" / str(index // 2000) / f"{index:05d}_{name}.png"
                write(path, np.repeat(np.uint8(255 * part)[..., None], 3, -1))
    lines = (f"{index} {10 * index} {index + 1:06d}.jpg" for index in SPLITS)
    text(folder / "CelebA-HQ-to-CelebA-mapping.txt", "idx orig_idx orig_file", *lines)
    partition = (f"{index + 1:06d}.jpg {part}" for index, part in SPLITS.items())
    text(folder / "list_eval_partition.txt", *partition, "202599.jpg 2")
    return folder


def test_parts_become_masks_of_the_images_size(raw, tmp_path, capsys):
    dataset = prepared("celebamask_hq", raw, tmp_path / "data", "--max_rejected=0")
    out = capsys.readouterr().out
    assert "published with 24183" in out
    assert "4 masks resized" in out
    assert dataset.splits == {"train": 2, "validation": 1, "test": 1}
    assert (len(dataset.meta["classes"]), dataset.meta["classes"][8]) == (19, "right_eye")
    seen = set()
    for split in dataset.splits:
        for name, record in records(dataset, split).items():
            expected = np.zeros((SIZE // 2, SIZE // 2), np.uint8)
            for class_id, part in FILES.items():
                expected[originals(int(name)) == class_id] = IDS[part]
            plain = decode(record)
            np.testing.assert_array_equal(plain["mask"], expected.repeat(2, 0).repeat(2, 1))
            middle = np.nonzero(plain["mask"] == 10)[1].mean()
            for class_id in (6, 7, 8, 9):  # sides in names are those of the image
                across = np.nonzero(plain["mask"] == class_id)[1]
                left = dataset.meta["classes"][class_id].startswith("left")
                assert not len(across) or (across.mean() < middle) == left
            seen |= set(np.unique(plain["mask"]))
    assert seen >= {6, 7, 8, 9}


def test_later_parts_cover_earlier_ones(raw, tmp_path):
    masks = raw / "CelebAMask-HQ-mask-anno" / "0"
    everywhere = np.full((SIZE // 2, SIZE // 2), 255, np.uint8)
    for part in ("neck", "neck_l", "hat"):  # ids 1, 18 and 16
        write(masks / f"00001_{part}.png", everywhere if part != "neck_l" else np.uint8(np.eye(SIZE // 2) * 255))
    dataset = prepared("celebamask_hq", raw, tmp_path / "data")
    mask = decode(records(dataset, "test")["1"])["mask"]
    assert set(np.unique(mask)) == {16, 18}
    assert (mask == 18).sum() == 2 * SIZE


def test_a_mirror_swaps_sides(raw, tmp_path):
    dataset = prepared("celebamask_hq", raw, tmp_path / "data")
    (flip,) = build_transforms((spec(Flip, probability=1.0),), dataset.meta)
    plain = decode(records(dataset, "test")["1"])
    flipped = flip(plain, np.random.default_rng(0))
    swap = np.arange(19)
    swap[[4, 5, 6, 7, 8, 9]] = [5, 4, 7, 6, 9, 8]
    np.testing.assert_array_equal(flipped["mask"], swap[plain["mask"]][:, ::-1])


def test_a_moved_part_is_another_input(raw, tmp_path, capsys):
    prepared("celebamask_hq", raw, tmp_path / "data")
    path = raw / "CelebAMask-HQ-mask-anno" / "0" / "00002_nose.png"
    Image.open(path).rotate(180).save(path)
    assert prepare("celebamask_hq", raw, tmp_path / "data") == 2
    assert "prepared from another input" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: (raw / "list_eval_partition.txt").unlink(), "no list_eval_partition.txt"),
        (lambda raw: text(raw / "list_eval_partition.txt", "000001.jpg 0"), "000002.jpg of"),
        (lambda raw: (raw / "CelebA-HQ-img" / "2000.jpg").unlink(), "no file 'CelebA-HQ-img/2000.jpg'"),
        (
            lambda raw: write(raw / "CelebAMask-HQ-mask-anno/0/00002_hair.png", np.zeros((8, 8), np.uint8)),
            "00002_hair.png is 8 x 8 pixels",
        ),
        (lambda raw: [p.unlink() for p in raw.glob("CelebAMask-HQ-mask-anno/1/*")], "no 02000_*.png in"),
    ],
)
def test_another_layout_is_refused(raw, tmp_path, capsys, change, message):
    change(raw)
    assert prepare("celebamask_hq", raw, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
