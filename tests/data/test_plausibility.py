"""Boxes and landmarks drawn at random as detectors give them, and spoilt as people spoil them."""

import re

import numpy as np
import pytest

from facerep_jax.data.plausibility import Tally, fault

SIZE = (200, 120)


def faces(count=60, size=SIZE, seed=0):
    """Boxes and landmarks of as many faces, each a little higher than wide, somewhere in the image."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        width = rng.uniform(0.2, 0.5) * size[1]
        height = width * rng.uniform(1.1, 1.3)
        x0, y0 = rng.uniform(0, size[0] - width), rng.uniform(0, size[1] - height)
        points = np.array([x0, y0]) + rng.uniform(0.1, 0.9, (12, 2)) * (width, height)
        yield np.float32([x0, y0, x0 + width, y0 + height]), points.astype(np.float32)


def sides(box):
    return np.float32([*box[:2], *(box[2:] - box[:2])])


def in_space(points):
    return np.column_stack([points, points[:, :1]])


FAR = np.float32([[-9999, -9999]])


def warnings(samples, size=SIZE):
    tally = Tally()
    for number, values in enumerate(samples, 1):
        if not fault(values, size):
            tally.add(f"line {number}", values, size)
    return list(tally.warnings())


SCALE = np.float32(SIZE)
RELATIVE = "to be relative to the image's size: no number is above 1.5; pixels are expected, so multiply x by"
NO_AREA = r"must be \[x0, y0, x1, y1\] with x1 > x0 and y1 > y0; .* write \[x, y, x \+ width, y \+ height\]"
BESIDE = "outside of the image.* made on another size of the image"
LARGE = "is more than 10 times as large as the image; was it made on another size of the image"
FAULTS = {
    "relative": (RELATIVE, lambda box, points: {"bbox": box / np.tile(SCALE, 2)}),
    "relative sides": (RELATIVE, lambda box, points: {"bbox": sides(box) / np.tile(SCALE, 2)}),
    "relative landmarks": (RELATIVE, lambda box, points: {"landmarks": points / SCALE}),
    "relative to the middle": (RELATIVE, lambda box, points: {"landmarks": points / SCALE * 2 - 1}),
    "relative in space": (RELATIVE, lambda box, points: {"landmarks_3d": in_space(points / SCALE)}),
    "no area": (NO_AREA, lambda box, points: {"bbox": box[[0, 1, 0, 3]]}),
    "corners exchanged": (NO_AREA, lambda box, points: {"bbox": box[[2, 3, 0, 1]]}),
    "nan": (NO_AREA, lambda box, points: {"bbox": box * np.float32(np.nan)}),
    "a dot": ("less than a pixel wide or high", lambda box, points: {"bbox": np.append(box[:2], box[:2] + 0.01)}),
    "beside": (BESIDE, lambda box, points: {"bbox": box + 5_000}),
    "before": (BESIDE, lambda box, points: {"bbox": box - 5_000}),
    "huge": (LARGE, lambda box, points: {"bbox": np.float32([0, 0, 30_000, 30_000])}),
    "long": (LARGE, lambda box, points: {"bbox": np.float32([0, 0, 30_000, 30])}),
    "landmarks beside": (BESIDE, lambda box, points: {"landmarks": points + 300}),
    "mesh beside": (BESIDE, lambda box, points: {"vertices": in_space(points + 900)}),
    "far": ("farther from the image than .*; write null", lambda box, points: {"landmarks": np.append(points, FAR, 0)}),
    "one place": (r"are all at \(-1, -1\); write null", lambda box, points: {"landmarks": points * 0 - 1}),
}  # fmt: skip


@pytest.mark.parametrize(("cause", "spoilt"), FAULTS.values(), ids=FAULTS)
def test_what_cannot_be_right_has_its_cause_in_words(cause, spoilt):
    for box, points in faces(20):
        values = spoilt(box, points)
        (key,) = values
        found = fault(values, SIZE)
        assert found.startswith(f"{key} ")
        assert re.search(cause, found), found


def test_faces_as_they_are_pass_and_say_nothing():
    found = [{"bbox": box, "landmarks": points} for box, points in faces()]
    assert not any(fault(values, SIZE) for values in found)
    assert warnings(found) == []
    assert warnings([{"bbox": values["bbox"]} for values in found]) == []
    assert warnings([{"landmarks": values["landmarks"]} for values in found]) == []


def test_boxes_and_points_that_leave_the_image_a_little_pass():
    """A face at the edge, a box with a margin, points that are not known, tiny pictures."""
    assert not fault({"bbox": np.float32([-60, -40, 250, 180])}, SIZE)
    assert not fault({"landmarks": np.float32([[-20, 5], [30, 130], [np.nan, np.nan]])}, SIZE)
    assert not fault({"landmarks": np.full((5, 2), np.nan, np.float32)}, SIZE)
    assert not fault({"bbox": np.float32([0, 0, 1, 1]), "landmarks": np.float32([[0, 1], [1, 0]])}, (4, 4))


def test_one_landmark_may_lie_anywhere():
    assert not fault({"landmarks": np.float32([[50, 60]])}, SIZE)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        (r"\[x, y, width, height\]", sides),
        (
            r"\[centre x, centre y, width, height\]",
            lambda box: np.float32([*(box[:2] + box[2:]) / 2, *(box[2:] - box[:2])]),
        ),
        (r"\[y0, x0, y1, x1\] \(or their landmarks are \[y, x\]\)", lambda box: box[[1, 0, 3, 2]]),
    ],
)
def test_a_box_of_another_convention_is_found_by_the_landmarks(name, spoil):
    first, *more = warnings([{"bbox": spoil(box), "landmarks": points} for box, points in faces(seed=1)])
    pattern = rf"\d+ of \d+ faces have a bbox that fits their landmarks better as {name}, the first is line \d+"
    assert re.fullmatch(pattern, first), first
    assert not any("most of their landmarks outside" in warning for warning in more)


def test_sides_in_place_of_corners_are_found_by_the_shapes_of_boxes():
    """tried: a guess from where the boxes lie alone, which takes equal boxes in the middle for sides."""
    corners = [box for box, _ in faces(400)]
    left = [box for box in corners if (sides(box)[2:] > box[:2] + 1).all()]
    assert len(left) >= 20
    (warning,) = warnings([{"bbox": sides(box)} for box in left])
    assert warning == f"bbox of {len(left)} faces seems to be [x, y, width, height]; [x0, y0, x1, y1] is expected"
    assert warnings([{"bbox": box} for box in left]) == []
    assert warnings([{"bbox": np.float32([60, 20, 139, 99])}] * 60) == []
    assert warnings([{"bbox": sides(box)} for box in left[:7]]) == []  # too few to say


def test_percentages_are_found_by_their_range():
    large = (640, 480)
    found = warnings([{"bbox": box / np.tile(np.float32(large), 2) * 100} for box, _ in faces(size=large)], large)
    assert "bbox of 60 faces has no number above 100, in images of 480 pixels or more: percent?" in found
    assert warnings([{"bbox": box} for box, _ in faces(size=large)], large) == []


def test_what_is_odd_is_counted_with_the_first_and_explained_where_it_is_common():
    plain = [{"landmarks": points} for _, points in faces(19)]
    odd = {"landmarks": np.float32([[3, 4], [-1, -1]])}
    assert warnings([*plain, odd]) == [
        "1 of 20 faces have a landmark at exactly (0, 0) or (-1, -1), the first is line 20",
        "1 of 20 faces have landmarks outside of their image, the first is line 20",
    ]
    assert warnings([odd]) == [
        "1 of 1 faces have a landmark at exactly (0, 0) or (-1, -1), the first is line 1; "
        "write null for a point that is not known",
        "1 of 1 faces have landmarks outside of their image, the first is line 1; "
        "were they made on another size of the image, or are they [y, x]?",
    ]
    pairs = zip(faces(9), faces(9, seed=5), strict=True)
    apart = warnings([{"bbox": box, "landmarks": points} for (_, points), (box, _) in pairs])
    assert any("most of their landmarks outside of their bbox" in warning for warning in apart)
    (half_out,) = warnings([{"bbox": np.float32([150, 50, 290, 110])}])
    assert half_out.startswith("1 of 1 faces have a bbox of which less than half lies in the image")
