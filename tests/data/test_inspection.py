"""What looking at the files of a set says of it. Broken images, masks and meshes are in `test_samples`."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from facerep_jax.data import samples
from facerep_jax.data.datasets import manifest

GREY = np.asarray(Image.effect_noise((12, 10), 60))


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def checked(folder, files, meta=None, **more):
    """What is found of images by name, a line for each, or of masks of equal images if the names begin with m."""
    folder.mkdir(exist_ok=True)
    lines = []
    for name, data in files.items():
        (folder / name).write_bytes(data)
        image = {"image": name}
        if name.startswith("m"):
            (folder / f"of_{name}").write_bytes(encoded(GREY))
            image = {"image": f"of_{name}", "mask": name}
        lines.append({**image, **more})
    (folder / "faces.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "faces.meta.json").write_text(json.dumps(meta or {}))
    return samples.check(manifest.read(None, folder))


def test_what_was_done_to_images_is_said_with_their_number_and_the_first(tmp_path):
    jpeg, exif = encoded(GREY, "JPEG"), Image.Exif()
    exif[0x0112] = 6
    deep = GREY.astype(np.uint16)
    notes = checked(
        tmp_path,
        {
            "a.jpg": jpeg,
            "b.png": encoded(GREY, exif=exif),
            "c.jpg": jpeg[:-2] + bytes(9) + jpeg[-2:],
            "d.png": encoded(deep * 4),
            "e.png": encoded(deep * 16),
            "f.png": encoded(deep * 16),
            "g.png": encoded(deep * 257),
        },
    ).notes
    assert notes == (
        "6 images stored as PNG: not an upright 8-bit RGB or grey JPEG or PNG",
        "1 images turned upright by their EXIF, the first is line 2: annotations must be those of the turned image",
        "1 JPEGs read although they hold stray bytes or lack their end marker, the first is line 3",
        "1 images of 16 bits a channel use only 10, and are scaled by what they use; the first is line 4",
        "2 images of 16 bits a channel use only 12, and are scaled by what they use; the first is line 5",
    )


FACE = np.zeros((10, 12), np.uint8)
FACE[3:6, 3:6] = 255
HAIR = {"classes": ["background", "hair"]}


def test_black_and_white_masks_are_refused_by_name_unless_their_greys_are_said(tmp_path):
    """tried: 255 stored as 'missing', with which an evaluation had no hair at all to score."""
    files = {"m0.png": encoded(FACE), "m1.png": encoded(FACE // 255 * 0), "m2.png": encoded(FACE)}
    with pytest.raises(
        ValueError,
        match=r"faces\.meta\.json, classes: the pixels of all 3 masks are 0 or 255, where a class is missing; if white "
        r"is 'hair', add \"mask_values\": \[0, 255\] to faces\.meta\.json$",
    ):
        checked(tmp_path / "a", files, HAIR)
    with pytest.raises(ValueError, match="but there are 3 classes"):
        checked(tmp_path / "b", files, {"classes": ["background", "hair", "hat"]})

    said = {**HAIR, "mask_values": [0, 255]}
    assert checked(tmp_path / "c", files, said).notes == ()
    plan = manifest.plan(manifest.read(None, tmp_path / "c"))
    assert plan.meta == {**HAIR, "absent": {"train": {}}}
    stored = plan.example(plan.records["train"][0])[1]["mask"]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stored))), FACE // 255)


def test_some_black_and_white_masks_are_a_warning_and_missing_pixels_none(tmp_path):
    whole, missing = FACE // 255, np.where(FACE == 255, 1, 0).astype(np.uint8)
    missing[0] = 255
    assert checked(tmp_path, {"m0.png": encoded(whole), "m1.png": encoded(missing)}, HAIR).notes == ()
    (note,) = checked(tmp_path, {"m0.png": encoded(whole), "m1.png": encoded(FACE)}, HAIR).notes
    assert note == (
        "warning: 1 masks hold only 0 and 255, which is 'missing', the first is line 2: are they black and white?"
    )
    assert checked(tmp_path, {"m0.png": encoded(FACE * 0 + 255)}, HAIR).notes == ()


def test_masks_of_another_size_are_counted_and_stored_at_the_images(tmp_path):
    half = np.random.default_rng(0).integers(0, 2, (5, 6), np.uint8)
    found = checked(tmp_path, {"m0.png": encoded(FACE // 255), "m1.png": encoded(half)}, HAIR)
    assert found.notes == ("1 masks resized to the size of their image, the first is line 2",)
    plan = manifest.plan(manifest.read(None, tmp_path))
    stored = plan.example(plan.records["train"][1])[1]["mask"]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stored))), half.repeat(2, 0).repeat(2, 1))


def test_boxes_and_points_that_cannot_be_right_are_rejected_and_odd_ones_told(tmp_path):
    found = checked(tmp_path, {"a.png": encoded(GREY)}, bbox=[0.1, 0.2, 0.8, 0.9])
    (rejection,) = found.rejected
    assert (rejection.line, found.samples) == (1, ())
    assert rejection.reason.startswith("bbox seems to be relative to the image's size")
    (note,) = checked(tmp_path, {"a.png": encoded(GREY)}, landmarks=[[-1, -1], [5, 5]]).notes[:1]
    assert note.startswith("warning: 1 of 1 faces have a landmark at exactly (0, 0) or (-1, -1), the first is line 1")


def test_a_mesh_is_held_against_the_image(tmp_path):
    tmp_path.joinpath("v.npy").write_bytes(b"")
    np.save(tmp_path / "v.npy", np.random.default_rng(0).uniform(0, 1, (9, 3)).astype(np.float32))
    (rejection,) = checked(tmp_path, {"a.png": encoded(GREY)}, vertices="v.npy").rejected
    assert rejection.reason.startswith("vertices seem to be relative to the image's size")


def test_images_in_two_splits_are_told_whatever_their_names(tmp_path):
    """Tried: digests of all lines, rejected ones too, held against the splits of those that are kept."""
    faces = {f"{split}{i}.png": encoded(GREY + i) for split in ("train", "validation") for i in range(3)}
    faces["train0.png"] = b"text"
    faces["test0.png"] = encoded(GREY + 9)
    checked(tmp_path, faces)
    lines = [{"image": name, "split": name[:-5]} for name in faces]
    lines[1]["image"] = "train2.png"  # twice in one split
    lines[1]["id"] = "again"

    def notes():
        (tmp_path / "faces.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return samples.check(manifest.read(None, tmp_path)).notes

    warning = "warning: {} images stand in both {}, the first is line {}, which is line {} too"
    assert notes() == (warning.format(1, "train and validation", 2, 6),)
    lines += [{"image": f"validation{i}.png", "id": f"t{i}", "split": "test"} for i in (1, 2)]
    assert notes() == (
        warning.format(1, "train and validation", 2, 6),
        warning.format(1, "train and test", 2, 9),
        warning.format(2, "validation and test", 5, 8),
    )
    lines[5]["split"] = lines[8]["split"] = "train"
    lines[7]["split"] = "validation"
    assert notes() == ()
