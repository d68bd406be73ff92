"""Faces that a detector found, by SAMPLE_ID: LAION-Face's sample2detect files, kept so that they need no memory."""

import contextlib
import os
import uuid
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from facerep_jax import torch_files
from facerep_jax.data.sample_ids import sample_id

WIDTH = 15  # numbers of a face: a box [x0 y0 x1 y1], five points, a score
FLIP = (1, 0, 2, 4, 3)  # of the five points: left eye, right eye, nose, left and right corner of the mouth, as seen
LANDMARKS = {  # what a data set's meta says of the five points
    "flip": list(FLIP),
    "normaliser": {"kind": "inter_ocular", "left": 0, "right": 1},
    "five_points": [[0], [1], [2], [3], [4]],
}
CHOICES = ("largest", "best", "all")


@dataclass(frozen=True)
class Face:
    """One face of an image, in the image's pixels."""

    bbox: Float32[np.ndarray, "4"]  # x0 y0 x1 y1
    landmarks: Float32[np.ndarray, "5 2"]
    score: float  # the detector's, up to 1

    @property
    def side(self) -> float:
        """The shorter side of the box in pixels."""
        return float(min(self.bbox[2] - self.bbox[0], self.bbox[3] - self.bbox[1]))


def chosen(faces: Sequence[Face], choice: str) -> tuple[Face, ...]:
    """Of the faces of an image, one or more: the one of the largest box, the best by score, or all."""
    if choice == "all":
        return tuple(faces)
    best = {"largest": lambda face: np.prod(face.bbox[2:] - face.bbox[:2]), "best": lambda face: face.score}
    return (max(faces, key=best[choice]),)


class Detections:
    """The faces of several files that `index` wrote, looked up one id at a time."""

    def __init__(self, stems: Sequence[Path]):
        self._tables = [
            (np.load(f"{stem}.ids.npy", mmap_mode="r"), np.load(f"{stem}.faces.npy", mmap_mode="r")) for stem in stems
        ]

    def of(self, wanted: int) -> list[Face] | None:
        """The faces of an image in the order of the file; None if no file knows the image."""
        for number, (ids, faces) in enumerate(self._tables):
            start, end = np.searchsorted(ids, [wanted, wanted + 1]).tolist()
            if start < end:
                self._tables.insert(0, self._tables.pop(number))  # its neighbours are in the same file
                rows = np.array(faces[start:end])
                # An image without faces is a row of NaN.
                return [Face(row[:4], row[4:14].reshape(5, 2), float(row[14])) for row in rows if row[14] == row[14]]
        return None


def index(source: Path, stem: Path) -> None:
    """Writes a sample2detect file as two sorted arrays, STEM.ids.npy and STEM.faces.npy, unless they are there.

    The file is a dict SAMPLE_ID -> faces, each of which is (box, five points, score). A box is [x0, y0, x1, y1].
    Memory is that of the arrays: 70 bytes for a face.

    Raises:
        ValueError: it is something else.
    """
    if Path(f"{stem}.ids.npy").exists():
        return
    ids, numbers = array("q"), array("f")

    def add(key: Any, faces: Any) -> None:
        if (wanted := sample_id(key)) is None:
            raise ValueError("an image has no SAMPLE_ID")
        rows = [_row(face, wanted) for face in faces] if faces is not None and len(faces) else [[np.nan] * WIDTH]
        for row in rows:
            ids.append(wanted)
            numbers.extend(row)

    torch_files.visit(source, add)
    order = np.argsort(np.frombuffer(ids, np.int64), kind="stable") if ids else np.zeros(0, int)
    table = np.frombuffer(numbers, np.float32).reshape(-1, WIDTH) if ids else np.zeros((0, WIDTH), np.float32)
    _save(f"{stem}.faces.npy", table[order])
    _save(f"{stem}.ids.npy", np.frombuffer(ids, np.int64)[order] if ids else np.zeros(0, np.int64))


def _row(face: Any, wanted: int) -> list[float]:
    with contextlib.suppress(TypeError, ValueError):
        box, points, score = face
        row = [*np.ravel(box).tolist(), *np.ravel(points).tolist(), *np.ravel(score).tolist()]
        if len(row) == WIDTH and np.size(box) == 4 and all(isinstance(number, float | int) for number in row):
            return row
    raise ValueError(f"the faces of SAMPLE_ID {wanted} must be (box of 4, 5 points, score)")


def _save(path: str, values: np.ndarray) -> None:
    unfinished = f"{path}.{uuid.uuid4().hex}.npy"
    np.save(unfinished, values)
    os.replace(unfinished, path)
