"""Planted and seen red: pixel corners in place of centres, turned the other way, a mask that is not turned."""

import numpy as np
import pytest
from PIL import Image

from facerep_jax import face_world
from facerep_jax.data.alignment import ARCFACE, AlignToTemplate, moved, similarity
from facerep_jax.data.meta import IBUG
from facerep_jax.data.pose import angles_of
from facerep_jax.data.transforms import CropToBox

FIVE = np.array([[20, 30], [45, 22], [36, 44], [30, 60], [49, 54]], np.float32)


def rng():
    return np.random.default_rng(0)


def umeyama(source, target):
    """Umeyama's similarity by singular values: PAMI 13 (1991), equations 40 to 42."""
    p, q = source - source.mean(0), target - target.mean(0)
    u, d, vt = np.linalg.svd(q.T @ p / len(p))
    s = np.diag([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    turn = u @ s @ vt
    scale = (d * np.diag(s)).sum() / np.square(p).sum(1).mean()
    return np.hstack([scale * turn, (target.mean(0) - scale * turn @ source.mean(0))[:, None]])


def test_a_similarity_is_umeyamas():
    for seed in range(20):
        draw = np.random.default_rng(seed)
        source, target = draw.normal(size=(5, 2)), draw.normal(size=(5, 2)) * 3 + 1
        np.testing.assert_allclose(similarity(source, target), umeyama(source, target), atol=1e-9)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) * 2.5
    found = similarity(FIVE.astype(float), FIVE @ turn.T + [3, -7])
    np.testing.assert_allclose(found, np.hstack([turn, [[3], [-7]]]), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        (512, 1.0, [[195.617, 225.559], [315.383, 225.559], [255.5, 285.441], [219.570, 359.696], [291.430, 359.696]]),
        (448, 0.8, [[181.594, 202.547], [265.406, 202.547], [223.5, 244.453], [198.356, 296.417], [248.644, 296.417]]),
    ],
)
def test_the_template_lies_where_farls_does(size, scale, expected):
    np.testing.assert_allclose(AlignToTemplate(size=size, scale=scale, meta={}).template, expected, atol=1e-3)


@pytest.mark.parametrize("size", [112, 224])
def test_insightfaces_template_is_in_pixels_of_112(size):
    published = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    align = AlignToTemplate(size=size, template=ARCFACE, meta={})
    np.testing.assert_allclose(align.template, np.array(published) * (size - 1) / 111, atol=1e-9)
    picture = {"id": b"a", "image": np.zeros((80, 80, 3), np.uint8)}
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) / 3
    seen = {**picture, "landmarks": (align.template @ turn.T + [20, 9]).astype(np.float32)}
    np.testing.assert_allclose(align(seen, rng())["landmarks"], align.template, atol=1e-3)
    with pytest.raises(ValueError, match=r"a template is x and y of 5 points, not \(4, 2\) numbers"):
        AlignToTemplate(size=size, template=ARCFACE[:4], meta={})


def blobs(h, w, points):
    """A dark picture with a soft bright spot at each point, in a channel of its own as far as there are."""
    y, x = np.mgrid[:h, :w]
    spots = [200 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 18) for px, py in points]
    return np.stack([*spots, *[np.zeros((h, w))] * 3][:3], -1).astype(np.uint8)


def centre(channel):
    light = channel.astype(float)
    y, x = np.mgrid[: light.shape[0], : light.shape[1]]
    return np.array([(x * light).sum(), (y * light).sum()]) / light.sum()


@pytest.mark.parametrize("degrees", [0, 30, -100])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_all_annotations_follow_the_picture(degrees, scale):
    angle = np.radians(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.array([[40, 30], [50, 36], [44, 44]], np.float32)
    middle = points.mean(0)
    size = 64
    matrix = np.hstack([turn, ((size - 1) / 2 - turn @ middle)[:, None]])
    vertices = np.column_stack([points, [1.0, -2, 3]]).astype(np.float32)
    camera = np.array([[2, 0, 1, 30], [0, 3, -1, 15], [0, 0, 2, 5]], np.float32)
    example = {
        "image": blobs(80, 100, points),
        "mask": np.where(blobs(80, 100, points)[..., 0] > 100, 7, 0).astype(np.uint8),
        "landmarks": points,
        "vertices": vertices,
        "camera": camera,
        "bbox": np.array([*points.min(0), *points.max(0)], np.float32),
    }
    result = moved(example, matrix, size)
    for channel, point in enumerate(result["landmarks"]):
        np.testing.assert_allclose(centre(result["image"][..., channel]), point, atol=0.15)
    np.testing.assert_allclose(centre(result["mask"] == 7), result["landmarks"][0], atol=0.3)
    np.testing.assert_allclose(
        result["vertices"], np.column_stack([result["landmarks"], scale * vertices[:, 2]]), rtol=1e-5
    )
    world = np.array([[0.5, -1, 2, 1]], np.float32)
    seen = world @ camera.T
    np.testing.assert_allclose(
        world @ result["camera"].T, [[*(turn @ seen[0, :2] + matrix[:, 2]), scale * seen[0, 2]]], rtol=1e-4
    )
    assert (result["bbox"][:2] <= result["landmarks"].min(0) + 1e-3).all()
    assert (result["bbox"][2:] >= result["landmarks"].max(0) - 1e-3).all()
    apart = np.linalg.norm((result["landmarks"][1] - result["landmarks"][0]) * result["landmarks_scale"])
    assert apart == pytest.approx(np.linalg.norm(points[1] - points[0]), rel=1e-4)


def test_what_lies_outside_is_black_and_its_mask_ignored():
    example = {"image": np.full((20, 20, 3), 200, np.uint8), "mask": np.full((20, 20), 4, np.uint8)}
    result = moved(example, np.array([[1.0, 0, 10], [0, 1, 5]]), 20)
    assert not result["image"][:, :9].any()
    assert not result["image"][:4].any()
    assert (result["image"][7:, 12:] == 200).all()
    np.testing.assert_array_equal(result["mask"] == 255, (np.arange(20) < 10)[None] | (np.arange(20) < 5)[:, None])


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = moved({"image": stripes}, np.array([[0.25, 0, 0], [0, 0.25, 0]]), 16)["image"]
    assert np.abs(small[3:-3, 3:-3].astype(int) - 127).max() <= 12


def test_a_generated_face_comes_to_the_template_with_its_parts():
    face = face_world.face(0, 1, 192)
    align = AlignToTemplate(size=96, meta=face_world.META)
    aligned = align(face, rng())
    landmarks = aligned["landmarks"]
    five = [landmarks[36:42].mean(0), landmarks[42:48].mean(0), landmarks[30], landmarks[48], landmarks[54]]
    assert np.linalg.norm(five - align.template, axis=1).mean() < 4
    assert abs(five[1][1] - five[0][1]) < 6  # the eyes are level
    for c in (c for c in np.unique(aligned["mask"]) if (aligned["mask"] == c).sum() > 150 and c != 255):
        painted = np.where(face["mask"] == c, 255, 0).astype(np.uint8)[..., None].repeat(3, -1)
        found = align({**face, "image": painted}, rng())["image"][..., 0] > 127
        assert (found & (aligned["mask"] == c)).sum() > 0.85 * (found | (aligned["mask"] == c)).sum()


def test_a_pose_turns_with_the_picture():
    face = face_world.face(0, 3, 96)
    aligned = AlignToTemplate(size=48, meta=face_world.META)({**face, "head_pose": angles_of(face["camera"])}, rng())
    np.testing.assert_allclose(aligned["head_pose"], angles_of(aligned["camera"]), atol=1e-2)


def test_an_aligned_image_of_an_upright_face_is_its_crop():
    """Where nothing turns, alignment is the crop of a square box, which PIL resizes once."""
    image = np.asarray(Image.fromarray(face_world.face(0, 2, 128)["image"]))
    box = np.array([20.5, 30.5, 100.5, 110.5], np.float32)
    scale = 40 / 80
    matrix = np.array([[scale, 0, -0.5 - scale * 20.5], [0, scale, -0.5 - scale * 30.5]])
    cropped = CropToBox(size=40)({"id": b"a", "image": image, "bbox": box}, rng())["image"]
    difference = np.abs(moved({"image": image}, matrix, 40)["image"].astype(int) - cropped)
    assert difference.max() <= 2


def test_five_landmarks_are_the_points_and_others_may_be_named():
    picture = {"id": b"a", "image": np.zeros((80, 80, 3), np.uint8)}
    five = AlignToTemplate(size=32, meta={})({**picture, "landmarks": FIVE}, rng())["landmarks"]
    seven = np.concatenate([[[0, 0]], FIVE, [[9, 9]]]).astype(np.float32)
    points = ((1,), (2,), (3,), (4,), (5,))
    of_meta = {"landmarks": {"five_points": [[1], [2], [3], [4], [5]]}}
    wrong = {"landmarks": {"five_points": [[0], [0], [0], [0], [6]]}}
    for align in (
        AlignToTemplate(size=32, points=points, meta=wrong),
        AlignToTemplate(size=32, meta=of_meta),
    ):
        named = align({**picture, "landmarks": seven}, rng())
        np.testing.assert_allclose(named["landmarks"][1:6], five, atol=1e-4)


def test_landmarks_that_are_mirrored_as_ibugs_are_ibugs():
    """Tried: the count alone, which would take 68 points in any order for iBUG's."""
    assert AlignToTemplate(size=16, meta={"landmarks": {"flip": IBUG["flip"]}}).points == (
        *(tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,)),
    )
    other = {"landmarks": {"flip": list(range(68))}}
    picture = {"id": b"a", "image": np.zeros((9, 9, 3), np.uint8), "landmarks": np.zeros((68, 2))}
    with pytest.raises(ValueError, match="does not tell `five_points` of its 68 landmarks"):
        AlignToTemplate(size=16, meta=other)(picture, rng())


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({}, "AlignToTemplate needs the feature 'landmarks'; the records have: id, image"),
        (
            {"landmarks": np.zeros((7, 2))},
            "the data set's meta does not tell `five_points` of its 7 landmarks; name them .* `points`",
        ),
        ({"landmarks": np.full((5, 2), np.nan)}, "record 'faces/7' has no landmarks to align"),
        ({"landmarks": np.full((5, 2), 4.0)}, "record 'faces/7' has no landmarks to align"),
    ],
)
def test_what_cannot_be_aligned_is_an_error(example, message):
    with pytest.raises(ValueError, match=message):
        AlignToTemplate(size=16, meta={})({"id": b"faces/7", "image": np.zeros((9, 9, 3), np.uint8), **example}, rng())


def test_four_points_are_no_template():
    with pytest.raises(ValueError, match="points are given for 4 of the template's 5"):
        AlignToTemplate(size=16, points=((0,), (1,), (2,), (3,)), meta={})
