"""A small LAION-Face as img2dataset and its authors lay it out, written from what they say, without their tools."""

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

FIRST = 1_581_282_014_547  # a SAMPLE_ID as LAION-400M has them


def picture(seed: int, size=(96, 128), kind="JPEG", mode="RGB", **options: Any) -> bytes:
    """A smooth image that no other seed has."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    file = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).convert(mode).save(file, kind, **options)
    return file.getvalue()


def about(number: int, **more: Any) -> dict[str, Any]:
    """The JSON of a sample, with the columns that LAION-Face's download.sh keeps."""
    known = {"NSFW": "UNLIKELY", "similarity": 0.31, "LICENSE": "?", "SAMPLE_ID": FIRST + number, "status": "success"}
    return {**known, "url": f"http://host/{number}.jpg", "error_message": None, **more}


def sample(number: int, **more: Any) -> dict[str, bytes]:
    """The files of a sample by their kind, in the order in which webdataset's writer puts them."""
    image, caption = more.pop("image", picture(number)), more.pop("caption", f"portrait {number}")
    return {"jpg": image, "json": json.dumps(about(number, **more), indent=4).encode(), "txt": caption.encode()}


def write_tar(path: Path, samples: Mapping[str, Mapping[str, bytes]]) -> Path:
    """Writes key -> kind -> content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for key, files in samples.items():
            for kind, content in files.items():
                member = tarfile.TarInfo(f"{key}.{kind}")
                member.size, member.mode, member.uname, member.gname = len(content), 0o444, "bigdata", "bigdata"
                archive.addfile(member, io.BytesIO(content))
    return path


def write_table(path: Path, kept: int, failed: Mapping[str, int]) -> None:
    """Writes img2dataset's table: a row for each link."""
    rows = [about(number) for number in range(kept)]
    for message, count in failed.items():
        rows += [{**about(0), "status": "failed_to_download", "error_message": message}] * count
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def face(box=(30, 40, 70, 90), score=0.99) -> tuple[np.ndarray, np.ndarray, np.float32]:
    """A face as batch-face gives it: box, five points, score; upright, its points where a face has them."""
    x0, y0, x1, y1 = box
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]) * [x1 - x0, y1 - y0] + [x0, y0]
    return np.array(box, np.float32), points.astype(np.float32), np.float32(score)


def write_detections(path: Path, faces: Mapping[Any, Any]) -> Path:
    """Writes sample2detect_N.pth as torch.save does: a zip archive, not compressed, with a pickle of protocol 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{path.stem}/data.pkl", pickle.dumps(dict(faces), 2))
        file.writestr(f"{path.stem}/version", "3\n")
    return path
