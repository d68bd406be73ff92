"""Shapes made by hand and spoilt; what a whole drawn set says is in tests/test_inspect.py.

Planted and seen red: mirrored without a permutation; the order of eyes never looked at.
"""

import numpy as np
import pytest

from facerep_jax.data import consistency
from facerep_jax.data.consistency import EYE, Duplicates, Labels, Masks, Mirror, Sides, eyes_of, mirrored_name, of_names
from facerep_jax.data.meta import IBUG

FIVE = {
    "landmarks": {
        "flip": [1, 0, 2, 4, 3],
        "five_points": [[0], [1], [2], [3], [4]],
        "normaliser": {"kind": "inter_ocular", "left": 0, "right": 1},
    }
}
FACE = np.float32([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]])


def faces(count=60, seed=0, yaw=0.0):
    """Five points of faces of all sizes and places, tilted a little; `yaw` moves the nose."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        points = FACE + rng.normal(0, 1, FACE.shape)
        points[2, 0] += yaw * 40
        angle, scale = rng.normal(0, 0.1), rng.uniform(0.5, 3)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        yield (points @ turn.T * scale + rng.uniform(-50, 50, 2)).astype(np.float32)


def warnings(check, shapes):
    for number, points in enumerate(shapes):
        check.add(points) if isinstance(check, Mirror) else check.add(f"face {number}", points)
    return list(check.warnings())


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("left_eye", "right_eye"),
        ("eye_r", "eye_l"),
        ("right eye", "left eye"),
        ("l_brow", "r_brow"),
        ("hair", "hair"),
        ("lower_lip", "lower_lip"),
        ("bright", "bright"),
        ("facing_left", "facing_right"),
    ],
)
def test_names_are_mirrored_by_their_side_alone(name, other):
    assert mirrored_name(name) == other


@pytest.mark.parametrize("name", ["eye", "eyes", "left_eye", "r_eye", "eye_l", "iris"])
def test_classes_of_eyes_are_known(name):
    assert EYE.search(name)


@pytest.mark.parametrize("name", ["left_eyebrow", "eye_brow", "eyeglass", "eye_g", "eye glasses", "brow", "skin"])
def test_brows_and_glasses_are_no_eyes(name):
    assert not EYE.search(name)


def test_eyes_come_from_the_five_points_or_the_normaliser():
    assert eyes_of(FIVE) == ((0,), (1,))
    assert eyes_of({"landmarks": IBUG}) == (tuple(range(36, 42)), tuple(range(42, 48)))
    pupils = {"kind": "inter_pupil", "left": [0, 1], "right": [2, 3]}
    assert eyes_of({"landmarks": {"normaliser": pupils}}) == ((0, 1), (2, 3))
    assert eyes_of({"landmarks": {"normaliser": {"kind": "box"}}}) == ()
    assert eyes_of({}) == ()


def test_faces_as_they_are_say_nothing():
    assert warnings(Sides(FIVE), faces()) == []
    assert warnings(Mirror(FIVE), faces()) == []
    assert warnings(Sides({}), faces()) == []
    assert warnings(Mirror({}), faces()) == []


def test_the_persons_own_sides_are_told_of_from_enough_faces_on():
    own = [points[[1, 0, 2, 4, 3]] for points in faces()]
    (warning,) = warnings(Sides(FIVE), own)
    assert warning.startswith(
        "in 60 of 60 faces the eye that is named left lies right of the other, the first is face 0"
    )
    assert "are they the person's own?" in warning
    assert warnings(Sides(FIVE), own[: consistency.ENOUGH - 1]) == []
    some = [points[[1, 0, 2, 4, 3]] if number % 4 == 0 else points for number, points in enumerate(faces())]
    (warning,) = warnings(Sides(FIVE), some)
    assert "in 15 of 60" in warning
    assert "are both conventions mixed?" in warning


def test_one_face_whose_eyes_are_exchanged_is_found_whichever_way_it_is_turned():
    some = list(faces())
    some[7] = some[7][[1, 0, 2, 3, 4]]
    (warning,) = warnings(Sides(FIVE), some)
    assert (
        "in 1 of 60 faces left and right eye are in another order than the corners of the mouth, the first is face 7"
        in (warning)
    )
    assert warnings(Sides(FIVE), [*some[:7], some[8], -some[9]]) == []  # a face upside down is none


def test_what_is_not_known_says_nothing():
    lacking = [np.where(np.arange(5)[:, None] == 1, np.nan, points).astype(np.float32) for points in faces()]
    assert warnings(Sides(FIVE), lacking) == []
    assert warnings(Mirror(FIVE), lacking) == []
    assert warnings(Sides(FIVE), [np.full((5, 2), np.nan, np.float32)] * 40) == []


@pytest.mark.parametrize("flip", [[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [3, 4, 2, 0, 1]])
def test_a_flip_that_does_not_mirror_is_told_of(flip):
    (warning,) = warnings(Mirror({"landmarks": FIVE["landmarks"] | {"flip": flip}}), faces())
    assert warning.startswith("landmarks.flip does not mirror the mean of 60 straight faces at ")
    wrong = next(i for i in range(5) if flip[i] != FIVE["landmarks"]["flip"][i])
    assert f"mirrored, point {wrong} is near to {FIVE['landmarks']['flip'][wrong]}, not to {flip[wrong]}" in warning


def test_faces_that_look_to_one_side_say_nothing_of_a_flip():
    assert warnings(Mirror(FIVE), faces(yaw=0.6)) == []


CLASSES = ("background", "skin", "left_brow", "right_brow", "left_eye", "right_eye", "nose", "mouth", "hat")
PLACES = {2: (30, 30), 3: (70, 30), 4: (30, 40), 5: (70, 40), 6: (50, 60), 7: (50, 80)}


def mask(hat=True):
    ids = np.zeros((100, 100), np.uint8)
    ids[20:90, 20:80] = 1
    for index, (x, y) in PLACES.items():
        ids[y - 3 : y + 4, x - 5 : x + 6] = index
    if hat:
        ids[:10] = 8
    return ids


def masks(spoil, classes=CLASSES, **shown):
    check = Masks(FIVE | {"classes": classes})
    for _ in range(consistency.ENOUGH):
        check.add(spoil(mask(**shown)), FACE)
    return check


def test_masks_are_counted():
    check = masks(lambda ids: ids)
    assert list(check.warnings()) == []
    assert check.pixels.sum() == consistency.ENOUGH * 100 * 100
    assert check.pixels[4] == consistency.ENOUGH * 7 * 11
    assert check.images.tolist() == [consistency.ENOUGH] * 9 + [0] * 247


def test_what_masks_show_to_be_wrong():
    def said(spoil, **more):
        return list(masks(spoil, **more).warnings())

    assert said(lambda ids: ids, hat=False) == [f"class 'hat' has no pixel in any of {consistency.ENOUGH} masks"]
    (unnamed,) = said(lambda ids: np.where(ids == 1, 30, ids).astype(np.uint8), classes=CLASSES)[:1]
    assert unnamed == "masks hold 30, but only 0 to 8 have names"
    swap = np.array([0, 1, 3, 2, 5, 4, 6, 7, 8], np.uint8)
    sides, beneath = said(lambda ids: swap[ids])
    assert sides.startswith("masks: 'left_brow' lies right of 'right_brow' in 20 of 20, 'left_eye' lies right of")
    assert "'right_eye' under the left eye (in 20 of 20)" in beneath
    *_, shifted = said(lambda ids: np.minimum(ids + 1, 8).astype(np.uint8))
    assert "are all classes shifted by +1" in shifted
    aside = said(lambda ids: np.roll(ids, 40, axis=0))
    assert any("masks mostly have the class 'hat'" in warning or "under the nose" in warning for warning in aside)


def test_without_names_of_parts_nothing_is_said_of_what_lies_beneath():
    assert list(masks(lambda ids: (ids > 0).astype(np.uint8), classes=("background", "face")).warnings()) == []


def test_flips_by_name():
    meta = {"classes": ["skin", "left_eye", "right_eye"], "attributes": ["facing_left", "facing_right", "smiling"]}
    right = {"mask_flip": [0, 2, 1], "attribute_flip": [1, 0, 2]}
    assert list(of_names(meta)) == list(of_names(meta | right)) == []
    assert list(of_names(meta | right | {"mask_flip": [0, 1, 2]})) == [
        "mask_flip turns 'left_eye' into 'left_eye', not into 'right_eye'"
    ]
    assert list(of_names(meta | right | {"attribute_flip": [0, 1, 2]})) == [
        "attribute_flip turns 'facing_left' into 'facing_left', not into 'facing_right'"
    ]


def test_labels_are_counted_as_numpy_counts_them():
    values = np.random.default_rng(0).integers(0, 2, (50, 3)).astype(np.float32)
    values[::3, 1] = np.nan
    labels = Labels("attribute", ("a", "b", "c"))
    for row in values:
        labels.add(row)
    np.testing.assert_array_equal(labels.known, np.isfinite(values).sum(0))
    np.testing.assert_array_equal(labels.on, (values >= 0.5).sum(0))
    np.testing.assert_allclose(labels.sum / labels.known, np.nanmean(values, 0))
    np.testing.assert_array_equal([labels.least, labels.greatest], [[0] * 3, [1] * 3])
    assert list(labels.warnings()) == []


def test_a_label_that_never_changes_or_is_negative_is_told_of():
    labels = Labels("attribute", ("same", "minus", "unknown"))
    for number in range(consistency.ENOUGH):
        labels.add(np.float32([1, 2 * (number % 2) - 1, np.nan]))
    assert list(labels.warnings()) == [
        "never changes: attribute 'same' (1 in 20)",
        "below 0, down to -1: attribute 'minus'; 0 means no, and what is unknown is left out",
    ]


def test_duplicates():
    found = Duplicates()
    for place, split, image, face in [
        ("a", "train", 1, 1), ("b", "train", 2, 1), ("c", "train", 1, 2), ("d", "train", 1, 1), ("e", "test", 2, 9),
    ]:  # fmt: skip
        found.add(place, split, image, face)
    assert list(found.warnings()) == [
        "1 of 5 images stand in another split too, byte for byte; the first is e, which is b too",
        "1 of 5 images stand there twice, byte for byte; the first is d, which is a too",
    ]
