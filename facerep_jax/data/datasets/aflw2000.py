"""AFLW2000-3D: 68 landmarks in three dimensions, at all yaws.

AFLW2000-3D.zip unpacks to image00002.jpg (450 x 450 pixels) and image00002.mat, which holds pt3d_68 (3 x 68: x, y and
depth) and Pose_Para (pitch, yaw, roll, ...; radians), and parameters of a face model that are not read. `head_pose` is
the same rotation as yaw, pitch and roll in degrees in the axes and the order that docs/tasks/head_pose.md tells of.

Landmarks are fixed to the face: those of the contour are where the model has them, not on the outline. Pixels count
from 1, as MATLAB's do (the archive's own example draws them on an image in MATLAB), so 1 is taken off x and y. The box
is the one around the landmarks, by whose sqrt(w h) errors are divided, as 3DDFA does; its three groups are yaws of up
to 30, 60 and 90 degrees, `abs_yaw_deg`. All 2,000 are the test split. Rests on the archive's example and on loaders.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facerep_jax.data import matlab, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.meta import IBUG
from facerep_jax.data.pose import angles_of_3ddfa
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="aflw2000",
    title="AFLW2000-3D",
    tasks=("landmarks", "3D", "head pose"),
    source="http://www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm",
    raw="the folder AFLW2000 with image00002.jpg and image00002.mat",
    counts={"test": 2_000},
    licence="research only; images are AFLW's",
    agreement="that of AFLW",
    citation="Zhu et al., Face Alignment across Large Poses: A 3D Solution, CVPR 2016",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
POINTS, FIRST = 68, 1  # what the first pixel is called
META = {"landmarks": {**IBUG, "normaliser": {"kind": "box", "left": 36, "right": 45}}}
MORE = {"abs_yaw_deg": (np.float32, ()), "head_pose": (np.float32, (3,))}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of the folder."""
    folder = BENCHMARK.folder(arg, manual_dir)
    return BENCHMARK.gather(folder, found(folder), META, more=MORE)


def found(folder: Path) -> Iterator[Sample]:
    """A sample for each image."""
    images = sorted(path.name for path in folder.glob("*.jpg"))
    if not images:
        raise FileNotFoundError(f"no *.jpg in {folder}; expected {BENCHMARK.raw}")
    for image in images:
        path = (folder / image).with_suffix(".mat")
        held = matlab.load(path, "pt3d_68", "Pose_Para")
        if held["pt3d_68"].shape != (3, POINTS) or held["Pose_Para"].size < 3:
            shapes = f"{held['pt3d_68'].shape} and {held['Pose_Para'].shape}"
            raise ValueError(f"{path}: pt3d_68 (3, {POINTS}) and Pose_Para of 3 or more are expected, not {shapes}")
        points = (held["pt3d_68"].T - np.array([FIRST, FIRST, 0])).astype(np.float32)
        pose = held["Pose_Para"].ravel()
        values = {
            "image": image,
            "landmarks": points[:, :2],
            "landmarks_3d": points,
            "bbox": (*points[:, :2].min(0), *points[:, :2].max(0)),
            "abs_yaw_deg": abs(float(np.degrees(pose[1]))),
            "head_pose": angles_of_3ddfa(pose),
        }
        yield Sample(values, id=path.stem, split="test")
