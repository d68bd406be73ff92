"""300W-LP: 300-W's faces turned to larger yaws, with 68 landmarks.

300W-LP.zip unpacks to AFW/, HELEN/, IBUG/, LFPW/ and the same with _Flip (their mirror images, which are not read: a
mirror is a transform here), each with NAME_0.jpg and NAME_0.mat, and landmarks/AFW/NAME_0_pts.mat and so on with pts_2d
and pts_3d (68 x 2). Pose_Para of NAME_0.mat has pitch, yaw and roll in radians, which give the `head_pose` that
AFLW2000-3D has too.

`points=3d` (the default) are landmarks fixed to the face and projected, as those of AFLW2000-3D are, `points=2d` those
on the outline. The former are `landmarks_3d` too, whose depths are not known. Pixels count from 1, as MATLAB's do:
inferred from AFLW2000-3D, of the same authors. All are for training: `dataset=aflw2000/default,train=w300lp/default`
learns here and tests there. Rests on face-alignment's and 3DDFA's descriptions (recalled).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facerep_jax.config import parse_arg
from facerep_jax.data import matlab, samples
from facerep_jax.data.benchmark import Benchmark
from facerep_jax.data.meta import IBUG
from facerep_jax.data.pose import angles_of_3ddfa
from facerep_jax.data.samples import Sample, Samples

BENCHMARK = Benchmark(
    name="w300lp",
    title="300W-LP",
    tasks=("landmarks", "3D", "head pose"),
    source="http://www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm",
    raw="the folder 300W_LP with AFW, HELEN, IBUG, LFPW and landmarks",
    counts={"train": 61_225},
    licence="research only; images are 300-W's",
    agreement="that of 300-W",
    citation="Zhu et al., Face Alignment across Large Poses: A 3D Solution, CVPR 2016",
    arguments="points=3d (default) or points=2d",
)
NAME, RAW, VERSION = "default", BENCHMARK.raw, "1.0.0"
FOLDERS = ("AFW", "HELEN", "IBUG", "LFPW")
POINTS, FIRST = 68, 1  # what the first pixel is called
META = {"landmarks": IBUG}
MORE = {"abs_yaw_deg": (np.float32, ()), "head_pose": (np.float32, (3,))}

plan = samples.plan


def read(arg: str | None, manual_dir: Path | None) -> Samples:
    """The images of the four folders."""
    folder, args = BENCHMARK.folder(arg, manual_dir), parse_arg(arg, points="3d")
    if args.points not in ("2d", "3d"):
        raise ValueError(f"points must be 2d or 3d, not {args.points!r}")
    return BENCHMARK.gather(folder, found(folder, f"pts_{args.points}"), META, more=MORE)


def found(folder: Path, key: str) -> Iterator[Sample]:
    """A sample for each image."""
    for part in FOLDERS:
        for image in sorted((folder / BENCHMARK.within(folder, part)).glob("*.jpg")):
            pose = matlab.load(image.with_suffix(".mat"), "Pose_Para")["Pose_Para"].ravel()
            path = folder / "landmarks" / part / f"{image.stem}_pts.mat"
            points = matlab.load(path, key)[key]
            if points.shape != (POINTS, 2) or pose.size < 3:
                raise ValueError(f"{path}: {key} of ({POINTS}, 2) is expected, not {points.shape}")
            landmarks = points.astype(np.float32) - FIRST
            values = {
                "image": f"{part}/{image.name}",
                "landmarks": landmarks,
                "bbox": (*landmarks.min(0), *landmarks.max(0)),
                "abs_yaw_deg": abs(float(np.degrees(pose[1]))),
                "head_pose": angles_of_3ddfa(pose),
            }
            if key == "pts_3d":
                values["landmarks_3d"] = np.pad(landmarks, ((0, 0), (0, 1)), constant_values=np.nan)
            yield Sample(values, id=f"{part}/{image.stem}")
