"""Files of drawn faces, from which the tests of builders write the layouts of published sets; and these prepared."""

import functools
import io
from pathlib import Path

import numpy as np
from PIL import Image

from facerep_jax import cli, face_world
from facerep_jax.data.library import Dataset, open_dataset

SIZE = 48
IBUG = face_world.META["landmarks"]["flip"]


@functools.cache
def face(index: int, size: int = SIZE) -> dict:
    """A drawn face: image, mask, landmarks, ..."""
    return face_world.face(0, index, size)


def write(path: Path, pixels: np.ndarray) -> Path:
    """Writes an image in the format that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def text(path: Path, *lines: str) -> Path:
    """Writes lines of a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def prepare(name: str, raw: Path, data: Path, *flags: str) -> int:
    """Runs the command; returns its exit status."""
    return cli.main(["facerep", "prepare", name, f"--manual_dir={raw}", f"--data_dir={data}", *flags])


def prepared(name: str, raw: Path, data: Path, *flags: str) -> Dataset:
    """The data set that the command prepares from a raw set."""
    assert prepare(name, raw, data, *flags) == 0
    family = name.partition(":")[0]
    (own,) = (path.name for path in (data / family).iterdir())
    return open_dataset(f"{family}/{own}", data)


def records(dataset: Dataset, *splits: str) -> dict[str, dict]:
    """Its records by id, in the order of ids; those of all splits if none is named."""
    found = (record for split in splits or dataset.splits for record in dataset.source(split))
    return dict(sorted((record["id"].decode(), record) for record in found))


def pixels(png: bytes) -> np.ndarray:
    """The pixels of an encoded image."""
    return np.asarray(Image.open(io.BytesIO(png)))


def sides(dataset: Dataset, record: dict, left: list[int], right: list[int]) -> None:
    """Checks that landmarks of a record lie left or right of each other, and that a mirror gives them back so."""
    flip, points = dataset.meta["landmarks"]["flip"], record["landmarks"]
    assert sorted(flip) == list(range(len(points)))
    mirrored = points[flip] * [-1, 1] + [pixels(record["image"]).shape[1] - 1, 0]
    for a, b in zip(left, right, strict=True):
        assert flip[a] == b
        assert points[a, 0] < points[b, 0]
        assert mirrored[a, 0] < mirrored[b, 0]


def points106(ibug: np.ndarray) -> np.ndarray:
    """106 landmarks in LaPa's order, made from 68: 33 contour, 2 x 9 brow, 15 nose, 2 x 9 eye, 20 lips, pupils."""
    nose = np.concatenate([ibug[27:31], _along(ibug[31:36], 11)])
    return np.concatenate([_shared(ibug), nose, _eye9(ibug, 0), _eye9(ibug, 1), ibug[48:68], _pupils(ibug)])


def points98(ibug: np.ndarray) -> np.ndarray:
    """98 landmarks in WFLW's order: 33 contour, 2 x 9 brow, 9 nose, 2 x 8 eye, 20 lips, pupils."""
    eyes = (_eye9(ibug, side)[:8] for side in (0, 1))
    return np.concatenate([_shared(ibug), ibug[27:36], *eyes, ibug[48:68], _pupils(ibug)])


def _along(points: np.ndarray, count: int) -> np.ndarray:
    """`count` points evenly along a line of points."""
    at = np.linspace(0, len(points) - 1, count)
    return np.stack([np.interp(at, range(len(points)), points[:, axis]) for axis in (0, 1)], -1)


def _shared(ibug: np.ndarray) -> np.ndarray:
    """Contour from left to right; left brow from its outer end, above and back below; right brow from its inner end."""
    left, right, down = ibug[17:22], ibug[22:27], np.array([0, 1.0])
    below_left = (_along(left, 5) + down)[:0:-1]
    below_right = (_along(right, 5) + down)[-2::-1]
    return np.concatenate([_along(ibug[:17], 33), left, below_left, right, below_right])


def _eye9(ibug: np.ndarray, side: int) -> np.ndarray:
    """Nine points of an eye from its left corner along the upper lid to the right one and back, and its centre."""
    eye = ibug[36:42] if side == 0 else ibug[42:48]
    above, below = _along(eye[[0, 1, 2, 3]], 5), _along(eye[[3, 4, 5, 0]], 5)[1:4]
    return np.concatenate([above, below, eye.mean(0)[None]])


def _pupils(ibug: np.ndarray) -> np.ndarray:
    return np.stack([ibug[36:42].mean(0), ibug[42:48].mean(0)])
