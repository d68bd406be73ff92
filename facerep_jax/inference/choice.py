"""Which faces a command is given, and what of them is shown to the encoder: flags that `embed` and `predict` share."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from facerep_jax.data import detections, detector
from facerep_jax.data.library import open_dataset
from facerep_jax.data.meta import may_show_images
from facerep_jax.data.transforms import Transform
from facerep_jax.evaluation.encoders import crop_of
from facerep_jax.files import local_path
from facerep_jax.inference import faces as sources
from facerep_jax.inference import loading
from facerep_jax.inference.faces import Face
from facerep_jax.inference.loading import ALIGNED, BOX, WHOLE, Loaded
from facerep_jax.inference.model import BATCH, Skipped
from facerep_jax.train import hardware
from facerep_jax.train.handover import PARAMS

NAMED = 5  # skipped faces that are told of on the screen


class Chosen(NamedTuple):
    """Faces, and how they are shown."""

    faces: list[Face]
    transforms: tuple[Transform, ...]
    may_show: bool  # whether pictures of them may be written
    crop: str  # `box` or `whole`


def define_flags(flag_values: flags.FlagValues) -> None:
    """Declare what both commands take."""
    text = {
        "weights": (PARAMS, "of a pre-training: params, ema, or a teacher's name"),
        "boxes": (None, 'faces in JSON lines, each with "image", relative to the file, and "bbox", x0 y0 x1 y1'),
        "dataset": (None, "a prepared data set, in place of images"),
        "data_dir": ("data", "folder of all prepared data sets"),
        "split": ("test", "of the data set"),
        "crop": ("", "box, a face's box and a margin; whole, the picture; else boxes where there are any"),
        "dtype": ("auto", "of matrix products: auto, float32 or bfloat16"),
    }
    for name, (default, help) in text.items():
        flags.DEFINE_string(name, default, help, flag_values)
    flags.DEFINE_bool("detect", False, "find the faces of images by a detector", flag_values)
    flags.DEFINE_string("detector", None, f"MODULE:CLASS in place of {detector.DEFAULT}", flag_values)
    several = "which of several faces that are detected in an image"
    flags.DEFINE_enum("faces", "all", [*detections.CHOICES], several, flag_values=flag_values)
    checkpoint = "an evaluation's workdir, WORKDIR[@STEP] of a pre-training, or FILE[@LAYOUT] of published weights"
    flags.DEFINE_string("checkpoint", None, checkpoint, flag_values, required=True)
    flags.DEFINE_float("margin", None, "around a box on each side, as a share of it", flag_values=flag_values)
    flags.DEFINE_integer("size", 0, "pixels of a side of the images, 0 for the checkpoint's", flag_values=flag_values)
    flags.DEFINE_integer("batch_size", BATCH, "faces of a batch, at most", flag_values=flag_values)
    flags.DEFINE_integer("devices", 0, "that compute, 0 for all", flag_values=flag_values)


def loaded(flag_values: flags.FlagValues) -> Loaded:
    """What `--checkpoint` names, as the flags want it."""
    hardware.check()
    hardware.check_dtype(flag_values.dtype)
    found = loading.load(
        flag_values.checkpoint, weights=flag_values.weights, dtype=flag_values.dtype, size=flag_values.size
    )
    margin = flag_values.margin
    if margin is None:
        return found
    if found.crop:
        raise ValueError("--margin is for encoders alone: what an evaluation learnt goes with the margin that it had")
    return found._replace(shown=tuple({**each, "margin": margin} for each in found.shown))


def chosen(flag_values: flags.FlagValues, words: Sequence[str], what: Loaded) -> Chosen:
    """The faces that words or flags name. Raises ValueError if they name none, or several kinds of sources."""
    given = [name for name in ("boxes", "dataset") if flag_values[name].value]
    if len(given) + bool(words) != 1:
        raise ValueError("give images and folders, or --boxes FILE, or --dataset NAME, and one of these alone")
    crop, may_show = flag_values.crop, True
    if crop not in ("", BOX, WHOLE):
        raise ValueError(f"--crop is {BOX} or {WHOLE}, not {crop!r}")
    for name in ("detector", "faces"):
        if flag_values[name].present and not flag_values.detect:
            raise ValueError(f"--{name} needs --detect")
    if flag_values.detect and not (words and crop != WHOLE):
        raise ValueError("--detect finds boxes in images and folders; --boxes, --dataset and --crop=whole need none")
    if words and crop == BOX and not flag_values.detect:
        raise ValueError("images alone have no boxes: give --detect, --boxes FILE, or --crop=whole")
    if flag_values.dataset:
        dataset = open_dataset(flag_values.dataset, flag_values.data_dir)
        known = "bbox" in dataset.features
        if crop == BOX and not known:
            raise ValueError(f"{dataset.name} has no boxes: give --crop=whole")
        crop = crop or (what.crop if known else "") or crop_of(dataset, None)
        transforms, may_show = what.transforms(crop), may_show_images(dataset.meta)
        faces = sources.in_dataset(dataset, flag_values.split, transforms)
    else:
        crop = crop or (WHOLE if words and not flag_values.detect else BOX)
        transforms = what.transforms(crop)
        faces = sources.in_files(words) if words else sources.in_boxes(local_path("--boxes", flag_values.boxes))
        if flag_values.detect:
            faces = sources.detected(faces, flag_values.detector or detector.DEFAULT, flag_values.faces)
    print(said(what, crop))
    return Chosen(faces, transforms, may_show, crop)


def said(what: Loaded, crop: str) -> str:
    """What an encoder is shown, in words."""
    encoder: Any = what.encoder
    margin = next((each["margin"] for each in what.shown if each.get("margin")), 0)
    seen = f"faces' boxes and a margin of {margin:g} of them on each side"
    seen = {WHOLE: "whole pictures", ALIGNED: "faces aligned by five points"}.get(crop, seen)
    names = [type(each).__name__ for each in what.transforms(crop)]
    lines = [f"{what.name}: {seen}, {' and '.join(names)} to {what.image_size} x {what.image_size} pixels"]
    if hasattr(encoder, "mean"):
        lines.append(f"less {numbers(encoder.mean)}, by {numbers(encoder.std)}")
    return "; ".join(lines)


def numbers(values: Any) -> str:
    """Three numbers of RGB."""
    return " ".join(f"{float(value):.3g}" for value in values)


def told_of(skipped: Sequence[Skipped], listing: Any) -> str:
    """What was skipped, in words; empty if nothing was."""
    if not skipped:
        return ""
    first = "; ".join(f"{each.id}: {each.reason}" for each in skipped[:NAMED])
    return f"{len(skipped)} skipped, see {listing}: {first}{'; ...' if len(skipped) > NAMED else ''}"


def lines_of(skipped: Sequence[Skipped]) -> list[Mapping[str, str]]:
    """What was skipped, as lines of JSON have it."""
    return [each._asdict() for each in skipped]
