"""Geometry against the definition, and against the picture itself; ranges against FaRL's.

Planted and seen red: the angle turned the other way for the image only, a picture sampled half a pixel off, the shift
scaled by the zoom, a camera that stays, the rectangle's place beyond the border, k where the radius belongs.
"""

import numpy as np
import pytest

from facerep_jax import face_world
from facerep_jax.data import augmentations
from facerep_jax.data.transforms import CropToBox, Resize

SIZE = 64
BOX = np.array([20.3, 31.0, 100.8, 121.5], np.float32)  # not square
POINTS = np.array([[40, 50], [80, 60], [60, 100]], np.float32)
CAMERA = np.array([[2, 0, 1, 30], [0, 3, -1, 15], [0, 0, 2, 5]], np.float32)


def rng(seed=0):
    return np.random.default_rng(seed)


def spotted():
    """A picture with a soft spot of its own colour at each of three points, and the class 1 to 3 around each."""
    y, x = np.mgrid[:140, :130]
    square = [(x - px) ** 2 + (y - py) ** 2 for px, py in POINTS]
    return {
        "id": b"spots",
        "image": np.stack([255 * np.exp(-s / (2 * 4**2)) for s in square], -1).astype(np.uint8),
        "mask": np.select([s < 8**2 for s in square], [1, 2, 3], 0).astype(np.uint8),
        "landmarks": POINTS,
        "landmarks_3d": np.concatenate([POINTS, [[1], [2], [3]]], 1).astype(np.float32),
        "bbox": BOX,
        "camera": CAMERA,
    }


def centre(light):
    y, x = np.mgrid[: light.shape[0], : light.shape[1]]
    return np.array([(x * light).sum(), (y * light).sum()]) / light.sum()


MOTIONS = {
    "shift": dict(shift=0.1),
    "angle": dict(angle_rad=0.8),
    "zoom": dict(zoom=0.3),
    "all": dict(shift=0.05, angle_rad=0.4, zoom=0.2, margin=0.25),
    "normal": dict(shift=0.01, angle_rad=0.3, zoom=0.1, margin=0.1, normal=True),
}


@pytest.mark.parametrize("motion", MOTIONS.values(), ids=MOTIONS)
@pytest.mark.parametrize("seed", range(4))
def test_everything_follows_the_picture(motion, seed):
    transform, example = augmentations.RandomAffine(size=SIZE, **motion), spotted()
    moved = transform(example, rng(seed))
    shift, angle, zoom = transform.draw(rng(seed))

    sides = (BOX[2:] - BOX[:2]) * (1 + 2 * motion.get("margin", 0))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def place(points):
        unit = (points - (BOX[:2] + BOX[2:]) / 2) / sides  # from the centre of the enlarged box, in sides of it
        return (zoom * unit @ turn.T + shift) * SIZE + (SIZE - 1) / 2

    np.testing.assert_allclose(moved["landmarks"], place(POINTS), atol=1e-3)
    np.testing.assert_allclose(moved["landmarks_3d"][:, :2], place(POINTS), atol=1e-3)
    assert np.ptp(moved["landmarks_3d"][:, 2]) > 0
    corners = place(np.array([[x, y] for x in BOX[::2] for y in BOX[1::2]]))
    np.testing.assert_allclose(moved["bbox"], [*corners.min(0), *corners.max(0)], atol=1e-3)
    world = np.concatenate([rng(9).normal(size=(5, 3)), np.ones((5, 1))], 1)
    np.testing.assert_allclose(
        (world @ moved["camera"].T)[:, :2], place((world @ CAMERA.T)[:, :2]), atol=1e-3 * np.abs(world).max() * 100
    )

    assert moved["image"].shape == (SIZE, SIZE, 3)
    for k, point in enumerate(moved["landmarks"]):
        if point.min() > 10 and point.max() < SIZE - 10:
            np.testing.assert_allclose(centre(moved["image"][..., k].astype(float)), point, atol=0.1)
            np.testing.assert_allclose(centre(moved["mask"] == k + 1), point, atol=0.5)  # nearest pixels
    np.testing.assert_allclose(example["landmarks"], POINTS)  # the record is left as it was


def test_the_mask_lies_where_the_picture_does():
    """Nearest pixels put each spot some tenths of a pixel off, but not all in one direction."""
    transform = augmentations.RandomAffine(size=SIZE, margin=0.5, **MOTIONS["angle"])
    errors = []
    for seed in range(60):
        moved = transform(spotted(), rng(seed))
        errors += [centre(moved["mask"] == k + 1) - point for k, point in enumerate(moved["landmarks"])]
    assert np.abs(np.mean(errors, 0)).max() < 0.06


def test_with_nothing_drawn_it_is_the_crop():
    example = spotted()
    one = augmentations.RandomAffine(size=SIZE, margin=0.2)(example, rng())
    other = CropToBox(size=SIZE, margin=0.2)(example, rng())
    assert set(one) == set(other)
    for name in set(one) - {"id", "image"}:
        np.testing.assert_allclose(one[name], other[name], atol=1e-4)
    assert np.abs(one["image"].astype(int) - other["image"]).max() <= 1
    whole = augmentations.RandomAffine(size=SIZE, whole=True)(example, rng())
    np.testing.assert_allclose(whole["landmarks"], Resize(size=SIZE)(example, rng())["landmarks"], atol=1e-4)
    without = augmentations.RandomAffine(size=SIZE, margin=0.2, whole=True)(example, rng())  # no margin around it all
    np.testing.assert_array_equal(without["landmarks"], whole["landmarks"])


def test_what_lies_next_to_the_box_comes_into_sight_and_beyond_the_image_is_black_and_ignored():
    example = {"id": b"a", "image": np.full((60, 60, 3), 200, np.uint8), "mask": np.ones((60, 60), np.uint8)}
    turn = dict(size=40, angle_rad=0.6, normal=True)
    inside = augmentations.RandomAffine(**turn)({**example, "bbox": np.array([20, 20, 40, 40.0])}, rng(1))
    assert inside["image"].min() == 200
    assert (inside["mask"] == 1).all()
    whole = augmentations.RandomAffine(**turn, whole=True)(example, rng(1))
    outside = whole["mask"] == 255
    assert 0.02 < outside.mean() < 0.5
    assert whole["image"][outside].mean() < 30  # but for the resampled border
    assert whole["image"][~outside].mean() > 190


def test_shifts_angles_and_zooms_have_their_distributions():
    transform = augmentations.RandomAffine(size=SIZE, shift=0.05, angle_rad=0.174, zoom=0.1)
    generator = rng()
    draws = np.array(
        [[*shift, angle, zoom] for shift, angle, zoom in (transform.draw(generator) for _ in range(4_000))]
    )
    for values, middle, most in zip(draws.T, (0, 0, 0, 1), (0.05, 0.05, 0.174, 0.1), strict=True):
        assert middle - most <= values.min() < middle - 0.99 * most
        assert middle + 0.99 * most < values.max() <= middle + most
        assert values.std() == pytest.approx(most / 3**0.5, rel=0.03)
    normal = augmentations.RandomAffine(size=SIZE, shift=0.01, angle_rad=0.314, zoom=0.1, normal=True)
    draws = np.array([[*shift, angle, zoom] for shift, angle, zoom in (normal.draw(generator) for _ in range(4_000))])
    assert np.abs(draws[:, :2]).max() <= 0.01
    np.testing.assert_allclose(draws[:, 2:].mean(0), [0, 1], atol=0.02)
    np.testing.assert_allclose(draws[:, 2:].std(0), [0.314, 0.1], rtol=0.05)


def test_a_face_keeps_its_parts_and_landmarks_together():
    def parts_of(face):  # brows, eyes, nose, lips: what stays in sight
        return [part for part in range(2, 10) if (face["mask"] == part).sum() > 30]

    face = max((face_world.face(0, index, 128) for index in range(0, 160, 8)), key=lambda face: len(parts_of(face)))
    parts = parts_of(face)
    assert len(parts) >= 6
    transform = augmentations.RandomAffine(size=96, margin=0.25, angle_rad=0.5, shift=0.05, zoom=0.1)
    before, after = CropToBox(size=96, margin=0.25)(face, rng()), transform(face, rng(3))
    shift, angle, zoom = transform.draw(rng(3))
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for part in parts:
        centres = [centre(x["mask"] == part) - 47.5 for x in (before, after)]
        np.testing.assert_allclose(centres[1], turn @ centres[0] + 96 * shift, atol=1)


def image(side=64, seed=0):
    return rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def test_the_rectangle_is_black_inside_the_image_and_of_farls_size():
    white = np.full((100, 200, 3), 255, np.uint8)
    generator, heights, widths, places = rng(), [], [], []
    for _ in range(2_000):
        black = (augmentations.BlackRectangle()({"image": white}, generator)["image"] == 0).all(-1)
        rows, columns = np.flatnonzero(black.any(1)), np.flatnonzero(black.any(0))
        assert black.sum() == len(rows) * len(columns)
        heights.append(len(rows) / 100)
        widths.append(len(columns) / 200)
        places.append(rows[0] / (100 - len(rows)) if len(rows) else 0)
    heights, widths = np.array(heights), np.array(widths)
    assert 0.1 <= heights.min() < 0.11
    assert 0.39 < heights.max() <= 0.4
    assert np.abs(widths - heights).max() <= 0.1 + 0.01  # half of 0.2, and rounding
    assert heights.mean() == pytest.approx(0.25, abs=0.01)
    assert (min(places), max(places)) == (0, 1)
    assert (white == 255).all()


def test_noise_is_blended_into_half_of_the_images():
    grey = np.full((64, 64, 3), 255, np.uint8)
    generator, shares = rng(), []
    for _ in range(400):
        noisy = augmentations.UniformNoise()({"image": grey}, generator)["image"].astype(float)
        shares.append((255 - noisy.mean()) / 127.5)  # the noise is 127.5 on average
    changed = np.array(shares)[np.array(shares) > 0]
    assert len(changed) / 400 == pytest.approx(0.5, abs=0.07)
    assert changed.max() < 0.51
    assert changed.mean() == pytest.approx(0.25, abs=0.03)
    noise = augmentations.UniformNoise(probability=1.0, most=1.0)({"image": image()}, rng(2))["image"]
    assert noise.std((0, 1)).min() > 30  # each pixel and colour has its own


def test_a_tenth_is_grey():
    generator, coloured = rng(), image(8)
    found = [augmentations.Grey()({"image": coloured}, generator)["image"] for _ in range(2_000)]
    grey = [x for x in found if (x[..., 0] == x[..., 1]).all()]
    assert len(grey) / 2_000 == pytest.approx(0.1, abs=0.02)
    np.testing.assert_allclose(grey[0][..., 2], coloured @ [0.299, 0.587, 0.114], atol=1)
    assert all((x == coloured).all() for x in found if (x[..., 0] != x[..., 1]).any())


def test_gamma_is_a_root_nothing_or_a_square_in_equal_parts():
    pixels, generator = image(8), rng()
    powers = [np.rint(255 * (pixels / 255) ** power) for power in (0.5, 1, 2)]
    found = [augmentations.Gamma()({"image": pixels}, generator)["image"] for _ in range(900)]
    counts = [sum(bool((x == power).all()) for x in found) for power in powers]
    assert sum(counts) == 900
    assert min(counts) > 250


@pytest.mark.parametrize("side", [300, 450])
def test_blur_averages_squares_of_up_to_a_hundredth_of_the_image(side):
    pixels = image(side)
    generator, found = rng(), set()
    for _ in range(30):
        seed = int(generator.integers(1 << 30))
        k = int(rng(seed).uniform(0, 0.01) * side)
        blurred = augmentations.BoxBlur()({"image": pixels}, rng(seed))["image"].astype(float)
        found.add(k)
        expected = pixels.astype(float)
        if k >= 2:
            weights = np.array([0.5, *np.ones(k - 1), 0.5] if k % 2 == 0 else np.ones(k)) / k
            for axis in (0, 1):
                expected = np.apply_along_axis(lambda line, w=weights: np.convolve(line, w, "same"), axis, expected)
        inner = slice(4, -4)
        np.testing.assert_allclose(blurred[inner, inner], expected[inner, inner], atol=1.01)
    assert found == set(range(side // 100 + (side % 100 > 0)))


def test_they_are_functions_of_the_generator():
    face = face_world.face(0, 1, 64)
    for transform in (
        augmentations.RandomAffine(size=32, shift=0.05, angle_rad=0.2, zoom=0.1),
        augmentations.BlackRectangle(),
        augmentations.UniformNoise(probability=1.0),
        augmentations.Gamma(),
        augmentations.BoxBlur(most=0.1),
    ):
        one, again, *others = (transform(face, rng(seed))["image"] for seed in (0, 0, *range(1, 9)))
        np.testing.assert_array_equal(one, again)
        assert any((one != other).any() for other in others)


def test_a_box_is_needed():
    with pytest.raises(ValueError, match="RandomAffine needs the feature 'bbox'"):
        augmentations.RandomAffine(size=8)({"id": b"a", "image": image()}, rng())
    with pytest.raises(ValueError, match="record 'a' has no box to crop to"):
        augmentations.RandomAffine(size=8)({"id": b"a", "image": image(), "bbox": np.zeros(4)}, rng())


META = {"attributes": ("beard", "hat"), "action_units": ("AU1", "AU2"), "landmarks": {"normaliser": {"kind": "box"}}}


@pytest.mark.parametrize(
    ("labels", "meta", "expected"),
    [
        (("landmarks",), {}, None),
        (("mask",), {}, None),
        (("vertices",), {}, None),
        (("mask", "landmarks"), {"mask_flip": (0, 2, 1, 3)}, None),
        (("landmarks",), {"landmarks": {"flip": (1, 0, 2)}}, ("landmarks", [[49, 60], [89, 50], [69, 100]])),
        (("age",), {}, ("age", 30.0)),
        (("head_pose",), {}, ("head_pose", [-20, 5, 3])),
        (("attributes",), {}, ("attributes", [1, 0])),
        (("action_units",), {}, ("action_units", [2, 5])),
        (("attributes",), {"attributes": ("beard", "looking_left")}, None),
        (("action_units",), {"action_units": ("AU1 (R)", "AU1 (L)")}, None),
        (("action_units",), {"action_units": ("AU1_right", "b"), "action_unit_flip": (1, 0)}, ("action_units", [5, 2])),
    ],
)
def test_an_example_is_mirrored_where_its_labels_can_be(labels, meta, expected):
    """Of a picture that is 130 pixels wide. tried: attributes without a permutation left out; those with sides kept."""
    more = {"attributes": [1, 0], "action_units": [2, 5], "age": 30.0, "head_pose": [20, 5, -3]}
    example = spotted() | {name: np.asarray(value, np.float32) for name, value in more.items()}
    mirror = augmentations.FlipWithLabels(labels=labels, probability=1.0, meta=META | meta)(example, rng())
    if expected is None:
        assert mirror is example
    else:
        np.testing.assert_array_equal(mirror["image"], example["image"][:, ::-1])
        name, value = expected
        np.testing.assert_array_equal(mirror[name], value)


def test_half_of_the_examples_are_mirrored():
    flip, example = augmentations.FlipWithLabels(labels=("age",), meta={}), spotted()
    changed = [(flip(example, rng(seed))["image"] != example["image"]).any() for seed in range(200)]
    assert np.mean(changed) == pytest.approx(0.5, abs=0.1)
