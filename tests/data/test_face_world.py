"""The generated faces: one geometry behind all annotations.

Planted once and seen red: the eyes' corners not exchanged in `LANDMARK_FLIP` (mirror), hidden jaw points left where
they are (contour), the pixel centre's half forgotten in `camera` (two sizes, mirror), the light not mirrored (mirror),
a beard told of everyone (captions) or given to everyone (attributes vary), the nose not searched for (profile), layers
composed in reverse (layers).
"""

import re
from dataclasses import replace

import numpy as np
import pytest

from facerep_jax.data import face_colours, face_geometry, face_rays, face_scene, face_world
from facerep_jax.data.face_world import ATTRIBUTES, CLASSES, META, draw, face, mirror, render

SIZE = 112


@pytest.fixture(scope="module")
def faces() -> list[dict]:
    return [face(7, index, SIZE) for index in range(100)]


def dilated(inside: np.ndarray, radius: float) -> np.ndarray:
    """The pixels within `radius` of a pixel that is `inside`."""
    reach = int(np.ceil(radius))
    padded = np.pad(inside, reach)
    out = np.zeros_like(inside)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if np.hypot(dx, dy) <= radius:
                out |= padded[reach + dy :, reach + dx :][: inside.shape[0], : inside.shape[1]]
    return out


def distance_to(inside: np.ndarray, point: np.ndarray) -> float:
    rows, columns = np.nonzero(inside)
    return float(np.hypot(columns - point[0], rows - point[1]).min()) if len(rows) else np.inf


def test_record_has_the_promised_types_and_ranges(faces):
    for record in faces[:20]:
        shapes = {name: (value.dtype, value.shape) for name, value in record.items() if isinstance(value, np.ndarray)}
        vertices = len(face_geometry.VERTEX_FLIP)
        assert shapes == {
            "image": (np.uint8, (SIZE, SIZE, 3)),
            "mask": (np.uint8, (SIZE, SIZE)),
            "landmarks": (np.float32, (68, 2)),
            "visible": (np.bool_, (68,)),
            "landmarks_3d": (np.float32, (68, 3)),
            "bbox": (np.float32, (4,)),
            "attributes": (np.float32, (len(ATTRIBUTES),)),
            "vertices": (np.float32, (vertices, 3)),
            "camera": (np.float32, (3, 4)),
        }
        assert vertices >= 500
        assert record["mask"].max() < len(CLASSES)
        assert set(np.unique(record["attributes"])) <= {0.0, 1.0}
        assert re.fullmatch(r"7-\d{8}", record["id"])
        assert isinstance(record["identity"], str)
        assert 1 <= len(record["caption"]) <= 2
        assert all(isinstance(caption, str) and caption for caption in record["caption"])
        assert np.isfinite(record["vertices"]).all()


def test_record_depends_on_seed_and_index_alone():
    first = {index: face(3, index, 48) for index in (5, 6)}
    again = {index: face(3, index, 48) for index in (6, 5)}
    for index in first:
        for name, value in first[index].items():
            np.testing.assert_array_equal(value, again[index][name], err_msg=name)
    assert (face(4, 5, 48)["image"] != first[5]["image"]).any()
    assert (first[6]["image"] != first[5]["image"]).any()


def test_four_images_share_an_identity_and_its_shape(faces):
    assert [record["identity"] for record in faces[:8]] == [faces[0]["identity"]] * 4 + [faces[4]["identity"]] * 4
    assert len({record["identity"] for record in faces}) == 25
    one, other, stranger = (draw(7, index) for index in (0, 3, 4))
    assert (one.head.jaw, one.skin, one.head.eye_x) == (other.head.jaw, other.skin, other.head.eye_x)
    assert (one.head.jaw, one.skin) != (stranger.head.jaw, stranger.skin)
    assert one.yaw != other.yaw


@pytest.mark.parametrize("big", [96, 224])
def test_same_face_at_two_sizes(big):
    small = 48
    ratio = big / small
    for index in range(12):
        a, b = face(1, index, small), face(1, index, big)
        for name in ("landmarks", "bbox"):
            np.testing.assert_allclose(b[name], (a[name] + 0.5) * ratio - 0.5, atol=2e-3 * ratio, err_msg=name)
        for name in ("landmarks_3d", "vertices"):
            np.testing.assert_allclose(b[name][:, :2], (a[name][:, :2] + 0.5) * ratio - 0.5, atol=2e-3 * ratio)
            np.testing.assert_allclose(b[name][:, 2], a[name][:, 2] * ratio, atol=2e-3 * ratio)
        for name in ("visible", "attributes", "identity", "caption"):
            np.testing.assert_array_equal(b[name], a[name], err_msg=name)
        nearest = np.floor((np.arange(small) + 0.5) * ratio).astype(int)
        assert (b["mask"][nearest][:, nearest] == a["mask"]).mean() > 0.97
        difference = b["image"][nearest][:, nearest].astype(int) - a["image"]
        assert np.abs(difference).mean() < 9


def test_flips_are_permutations_that_undo_themselves():
    flips = (META["landmarks"]["flip"], META["mask_flip"], META["attribute_flip"], META["vertex_flip"])
    for flip, count in zip(flips, (68, len(CLASSES), len(ATTRIBUTES), len(META["vertex_flip"])), strict=True):
        np.testing.assert_array_equal(np.array(flip)[list(flip)], np.arange(count))


def test_mirrored_face_has_mirrored_annotations():
    flip, vertex_flip = list(META["landmarks"]["flip"]), list(META["vertex_flip"])
    for index in range(24):
        scene = draw(2, index)
        seen, mirrored = render(scene, SIZE), render(mirror(scene), SIZE)
        for name, order in (("landmarks", flip), ("landmarks_3d", flip), ("vertices", vertex_flip)):
            expected = seen[name][order]
            expected[:, 0] = SIZE - 1 - expected[:, 0]
            np.testing.assert_allclose(mirrored[name], expected, atol=5e-3, err_msg=name)
        np.testing.assert_array_equal(mirrored["visible"], seen["visible"][flip])
        np.testing.assert_array_equal(mirrored["attributes"], seen["attributes"][list(META["attribute_flip"])])
        expected_mask = np.array(META["mask_flip"])[seen["mask"][:, ::-1]]
        assert (mirrored["mask"] == expected_mask).mean() > 0.998
        difference = mirrored["image"].astype(float) - seen["image"][:, ::-1]
        assert np.abs(difference).mean() < 1.3 * scene.noise + 1  # two draws of noise
        x0, y0, x1, y1 = seen["bbox"]
        np.testing.assert_allclose(mirrored["bbox"], [SIZE - 1 - x1, y0, SIZE - 1 - x0, y1], atol=5e-3)


def test_mirror_twice_is_the_scene_and_captions_change_sides():
    sides = 0
    for index in range(60):
        scene = draw(2, index)
        mirrored = mirror(scene)
        assert mirror(mirrored).captions == scene.captions
        assert mirror(mirrored).yaw == scene.yaw
        for caption, other in zip(scene.captions, mirrored.captions, strict=True):
            assert len(re.findall(r"\bleft\b", caption)) == len(re.findall(r"\bright\b", other))
            sides += caption != other
    assert sides > 3


@pytest.mark.parametrize(
    ("points", "classes"),
    [
        (range(17, 22), ("left_brow",)),
        (range(22, 27), ("right_brow",)),
        (range(27, 36), ("nose",)),
        (range(36, 42), ("left_eye",)),
        (range(42, 48), ("right_eye",)),
        (range(48, 68), ("upper_lip", "inner_mouth", "lower_lip")),
    ],
    ids=["left_brow", "right_brow", "nose", "left_eye", "right_eye", "mouth"],
)
def test_visible_landmarks_lie_on_their_part(faces, points, classes):
    """Within 1.5 pixels of the part's nearest pixel centre: half a pixel's diagonal, and about one pixel more."""
    wanted = [CLASSES.index(name) for name in classes]
    distances = np.array(
        [
            distance_to(np.isin(record["mask"], wanted), record["landmarks"][point])
            for record in faces
            for point in points
            if record["visible"][point]
        ]
    )
    assert len(distances) > 200
    assert (distances <= 1.5).mean() > 0.98, np.sort(distances)[-20:]
    assert np.median(distances) < 0.8


def test_hidden_jaw_points_lie_on_the_contour():
    checked = 0
    for index in range(300):
        scene = draw(5, index)
        if abs(scene.yaw) < np.deg2rad(35) or scene.hair_length > 1 or scene.occluder:
            continue
        record = render(scene, SIZE)
        head = np.isin(record["mask"], [CLASSES.index(name) for name in CLASSES if name not in ("background", "nose")])
        contour = head & dilated(~head, 1)
        far = range(3, 7) if scene.yaw < 0 else range(10, 14)
        for point in far:
            if record["visible"][point] or not (record["landmarks"][point] < SIZE - 1).all():
                continue
            assert distance_to(contour, record["landmarks"][point]) <= 1.5, (index, point)
            checked += 1
    assert checked > 80


def test_visible_points_do_not_slide(faces):
    for record in faces:
        stays = record["visible"] | (np.arange(68) >= 17)
        np.testing.assert_array_equal(record["landmarks"][stays], record["landmarks_3d"][stays, :2])
    moved = [np.abs(record["landmarks"] - record["landmarks_3d"][:, :2]).max() for record in faces]
    assert max(moved) > 5


def test_turned_heads_hide_the_far_side(faces):
    left, right = ATTRIBUTES.index("facing_left"), ATTRIBUTES.index("facing_right")
    turned_left = np.mean([record["visible"][:17] for record in faces if record["attributes"][left]], axis=0)
    turned_right = np.mean([record["visible"][:17] for record in faces if record["attributes"][right]], axis=0)
    assert turned_left[2:6].max() < 0.4 < 0.5 < turned_left[11:15].min()
    assert turned_right[11:15].max() < 0.4 < 0.5 < turned_right[2:6].min()


def test_occluder_hides_what_it_covers_and_nothing_else():
    covered = 0
    for index in range(150):
        scene = draw(9, index)
        if not scene.occluder:
            continue
        record, bare = render(scene, SIZE), render(replace(scene, occluder=None), SIZE)
        painted = (record["image"] != bare["image"]).any(-1)
        inside, near = ~dilated(~painted, 1.5), dilated(painted, 1.5)
        x, y = np.round(record["landmarks_3d"][:, :2]).astype(int).clip(0, SIZE - 1).T
        assert not record["visible"][inside[y, x]].any()
        assert (record["mask"][inside] == 0).all()
        np.testing.assert_array_equal(record["visible"][~near[y, x]], bare["visible"][~near[y, x]])
        covered += bare["visible"][inside[y, x]].sum()
    assert covered > 15


def test_points_outside_the_frame_are_not_visible():
    scene = replace(draw(9, 0), x=0.05)
    record = render(scene, SIZE)
    outside = ((record["landmarks_3d"][:, :2] < -0.5) | (record["landmarks_3d"][:, :2] > SIZE - 0.5)).any(1)
    assert outside.any()
    assert not record["visible"][outside].any()


def test_vertices_are_the_camera_of_points_on_the_head(faces):
    for index, record in enumerate(faces[:20]):
        head = draw(7, index).head
        homogeneous = np.concatenate([head.vertices, np.ones((1, head.vertices.shape[1]))])
        np.testing.assert_allclose(record["vertices"], (record["camera"] @ homogeneous).T, atol=1e-3)
        np.testing.assert_array_equal(record["landmarks_3d"], record["vertices"][:68])
        value, _ = head.surface(head.vertices, head.relief)
        assert np.abs(value).max() < 1e-4
        linear = record["camera"][:, :3]
        scale = np.cbrt(np.linalg.det(linear))
        np.testing.assert_allclose(linear @ linear.T, scale**2 * np.eye(3), atol=1e-3 * scale**2)


def test_vertices_deform_with_shape_and_expression():
    heads = [draw(7, index).head.vertices for index in range(12)]
    grid = np.stack(heads)[:, :, 68:]
    assert (np.ptp(grid[:4], axis=0).max(0) > 1e-3).any()  # one identity, four expressions
    assert np.ptp(grid, axis=0).max() > 0.05


def test_rays_end_on_the_surface_that_landmarks_lie_on():
    """The ray-caster and the closed form of the surface agree where nothing stands in front."""
    errors, misses = [], []
    for index in range(24):
        scene = draw(6, index)
        head, turn = scene.head, face_geometry.rotation(scene.yaw, scene.pitch, scene.roll)
        points = head.vertices
        seen = ~face_rays.hidden_by_itself(head, turn, points, head.normals(points))
        facing = turn[2] @ head.surface(points, head.relief)[1] < -0.5
        x, y, depth = turn @ points[:, seen & facing]
        hit = face_rays.cast_on_head(head, turn, x, y)
        errors.append(np.abs(hit.depth - depth))
        misses.append(hit.outside >= 0)
        np.testing.assert_allclose(np.linalg.norm(hit.normals, axis=0), 1, atol=1e-4)
    assert np.concatenate(misses).mean() < 0.0005
    assert np.median(np.concatenate(errors)) < 1e-6
    assert np.quantile(np.concatenate(errors), 0.99) < 0.002


@pytest.mark.parametrize("degrees", [0, 30, -60])
def test_rays_find_the_profile_that_small_steps_find(degrees):
    """Beyond the bare skull's far contour only nose, lips and chin are met; and nothing is met where nothing is."""
    missed, invented, wrong = [], [], []
    for index in range(4):
        scene = replace(draw(6, 4 * index), yaw=np.deg2rad(degrees))
        head, turn = scene.head, scene.turn
        x, y = (place.ravel() for place in np.meshgrid(*2 * [np.linspace(-1.1, 1.2, 70, dtype=np.float32)]))
        far = np.flatnonzero(x * np.sign(degrees) >= 0.3 * (degrees != 0))
        x, y = x[far], y[far]
        steps = np.linspace(-1.6, 0.4, 400, dtype=np.float32)
        rays = (np.broadcast_to(values, (len(x), 400)).ravel() for values in (x[:, None], y[:, None], steps))
        solid = head.signed(face_rays.ray_points(turn, *rays), head.relief).reshape(len(x), 400) < 0
        hit = face_rays.cast_on_head(head, turn, x, y)
        both = solid.any(1) & (hit.outside < 0)
        missed.append(solid.any(1) & (hit.outside > 0.005))
        invented.append(~solid.any(1) & (hit.outside < -0.005))
        wrong.append(np.abs(hit.depth - steps[solid.argmax(1)])[both] > 0.02)
    assert np.concatenate(missed).mean() < 0.001
    assert np.concatenate(invented).mean() < 0.005
    assert np.concatenate(wrong).mean() < 0.01


def test_relief_is_a_sum_of_bumps():
    rng = np.random.default_rng(0)
    bumps = [tuple(rng.uniform([-0.3, 0, -0.5, 0.06, 0.06], [0.3, 0.3, 0.5, 0.3, 0.3]).tolist()) for _ in range(5)]
    x, y = rng.uniform(-1, 1, (2, 50))
    expected = sum(a * np.exp(-(((abs(x) - x0) / u) ** 2) - ((y - y0) / v) ** 2) for a, x0, y0, u, v in bumps)
    relief = face_geometry.Relief.of(bumps)
    np.testing.assert_allclose(relief.height(x, y), expected, atol=1e-5)
    np.testing.assert_allclose(relief.height_and_slopes(x, y)[0], expected, atol=1e-5)


def test_layers_laid_at_once_are_layers_laid_one_by_one():
    scene = draw(0, 0)
    view = face_rays.View(scene.turn, 0.03, 8.0, 8.0, 16)
    window = (slice(0, 16), slice(0, 16))
    points = np.zeros((3, 16, 16), np.float32)
    at_once, one_by_one = (face_colours.FaceColours(scene, view, window, points) for _ in range(2))
    rng = np.random.default_rng(0)
    layers = [
        face_colours.Layer(
            rng.uniform(-0.03, 0.03, (16, 16)).astype(np.float32), tuple(rng.uniform(0, 255, 3).tolist()), 0.7, label
        )
        for label in (4, 7, None, 9)
    ]
    at_once.lay(window, *layers)
    for layer in layers:
        one_by_one.lay(window, layer)
    np.testing.assert_allclose(at_once.colour, one_by_one.colour, atol=1e-3)
    np.testing.assert_array_equal(at_once.label, one_by_one.label)
    assert {4, 7, 9} <= set(np.unique(at_once.label))


def test_normals_are_the_gradient_of_the_surface():
    head = draw(6, 0).head
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.9, 0.9, (3, 200))
    points[0][np.abs(points[0]) < 0.01] = 0.02  # the nostrils' bumps have a crease in the mid-plane
    _, gradient = head.surface(points, head.relief)
    for axis in range(3):
        step = np.zeros((3, 1))
        step[axis] = 1e-5
        slope = (head.surface(points + step, head.relief)[0] - head.surface(points - step, head.relief)[0]) / 2e-5
        np.testing.assert_allclose(gradient[axis], slope, atol=2e-3)


def test_landmarks_are_in_ibug_order():
    scene = draw(0, 0)
    x, y = scene.head.landmarks[:2]
    assert (np.diff(x[:17]) > 0).all()
    assert y[:17].argmax() == 8
    assert (np.diff(x[17:27]) > 0).all()
    assert (np.diff(y[27:31]) > 0).all()
    assert (np.diff(x[31:36]) > 0).all()
    assert x[36] < x[37] < x[38] < x[39] < x[42] < x[43] < x[44] < x[45]  # outer corners are 36 and 45
    assert y[37] < y[41]
    assert y[44] < y[46]
    assert (np.diff(x[48:55]) > 0).all()
    assert (np.diff(x[54:60]) < 0).all()
    assert y[51] < y[62] <= y[66] < y[57]
    assert (np.diff(x[60:65]) > 0).all()
    assert (np.diff(x[64:68]) < 0).all()


def test_landmarks_and_box_stay_near_the_image(faces):
    for record in faces:
        points = record["landmarks"]
        assert points.min() > -0.1 * SIZE
        assert points.max() < 1.1 * SIZE
        x0, y0, x1, y1 = record["bbox"]
        np.testing.assert_allclose([x0, x1, y1], [points[:, 0].min(), points[:, 0].max(), points[:, 1].max()])
        np.testing.assert_allclose(points[:, 1].min() - y0, 0.2 * (y1 - points[:, 1].min()), rtol=1e-3)
        assert 0.2 * SIZE < x1 - x0 < 0.7 * SIZE


def test_every_class_occurs(faces):
    seen = np.unique(np.concatenate([np.unique(record["mask"]) for record in faces]))
    np.testing.assert_array_equal(seen, np.arange(len(CLASSES)))


def test_left_parts_are_left_of_right_parts(faces):
    record = min(enumerate(faces), key=lambda pair: abs(draw(7, pair[0]).yaw))[1]
    for part in ("brow", "eye"):
        left, right = (np.nonzero(record["mask"] == CLASSES.index(f"{side}_{part}"))[1] for side in ("left", "right"))
        assert left.max() < right.min()


def test_every_attribute_varies():
    values = np.array([list(face_scene.attributes(draw(0, index)).values()) for index in range(300)], float)
    share = values.mean(0)
    assert ((share > 0.02) & (share < 0.8)).all(), dict(zip(ATTRIBUTES, share, strict=True))


def test_attributes_agree_with_the_labels(faces):
    """Long hair covers more than a bald head; an open mouth shows its inside, a closed one does not."""
    bald, opened = ATTRIBUTES.index("bald"), ATTRIBUTES.index("mouth_open")
    hair, inner = CLASSES.index("hair"), CLASSES.index("inner_mouth")
    for index, record in enumerate(faces):
        scene = draw(7, index)
        if record["attributes"][bald]:
            assert not (record["mask"] == hair).any()
        shown = (record["mask"] == inner).sum()
        if not record["attributes"][opened]:
            assert shown == 0
        elif not scene.occluder and abs(scene.yaw) < 0.6:
            assert shown >= 4


# Which words give away which attribute, written here from the words alone.
TELLING = {
    "glasses": r"glasses|spectacles",
    "beard": r"beard|facial hair",
    "hat": r"\bhat\b",
    "fringe": r"fringe|bangs",
    "long_hair": r"long hair|shoulders",
    "bald": r"bald|no hair",
    "black_hair": r"black hair",
    "brown_hair": r"brown hair|brunette",
    "blond_hair": r"blonde? hair",
    "grey_hair": r"gr[ae]y hair",
    "smiling": r"smil",
    "mouth_open": r"mouth|talking",
    "eyes_closed": r"eyes",
    "facing_left": r"left",
    "facing_right": r"right",
}


def test_captions_tell_the_truth_and_often_something():
    told = dict.fromkeys(ATTRIBUTES, 0)
    holds = dict.fromkeys(ATTRIBUTES, 0)
    silent = captions = 0
    for index in range(400):
        scene = draw(11, index)
        true = face_scene.attributes(scene)
        for caption in scene.captions:
            named = {name for name, words in TELLING.items() if re.search(words, caption)}
            assert named <= {name for name in true if true[name]}, caption
            captions += 1
            silent += not named
            for name in ATTRIBUTES:
                told[name] += name in named
                holds[name] += true[name]
    assert set(TELLING) == set(ATTRIBUTES) == set(face_scene.WORDINGS)
    assert 0.15 < silent / captions < 0.25  # one in five names only a place
    for name in ATTRIBUTES:
        assert 0.3 < told[name] / holds[name] < 0.75, name
    assert len({caption for index in range(100) for caption in draw(11, index).captions}) > 90


def test_camera_turns_the_face_where_the_attribute_says(faces):
    left, right = ATTRIBUTES.index("facing_left"), ATTRIBUTES.index("facing_right")
    for record in faces:
        nose, middle = record["landmarks_3d"][30, 0], record["camera"][0, 3]
        if record["attributes"][left]:
            assert nose < middle
        if record["attributes"][right]:
            assert nose > middle


def test_skin_tones_and_yaw_cover_their_range():
    scenes = [draw(0, index) for index in range(300)]
    luminance = np.array([np.mean(scene.skin) for scene in scenes])
    assert luminance.min() < 70
    assert luminance.max() > 190
    degrees = np.rad2deg([scene.yaw for scene in scenes])
    assert degrees.min() < -50
    assert degrees.max() > 50


def test_names_are_one_set():
    assert META["classes"] == CLASSES
    assert list(face_scene.attributes(draw(0, 0))) == list(ATTRIBUTES)
    assert face_world.camera(draw(0, 0), 64).dtype == np.float32
