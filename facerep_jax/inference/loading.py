"""What a path holds that can be used: an encoder, and what an evaluation learnt on it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flax import nnx
from ml_collections import ConfigDict

from facerep_jax import weights as published
from facerep_jax.config import OPEN, Spec, spec
from facerep_jax.data.meta import CROPS
from facerep_jax.data.pipeline import build_transforms
from facerep_jax.data.transforms import CropToBox, Transform
from facerep_jax.evaluation import encoders, learnt
from facerep_jax.evaluation.results import RANDOM, Results, name_of
from facerep_jax.files import local_path
from facerep_jax.train import handover
from facerep_jax.train.hardware import compute_dtype
from facerep_jax.train.model import filled
from facerep_jax.typing import Encoder, Task

BOX, WHOLE, ALIGNED = CROPS


class Loaded(NamedTuple):
    """An encoder, the task that was learnt on it, and what they were shown of a picture."""

    name: str  # for messages
    encoder: Encoder
    task: Task | None  # None if the path is no evaluation's, or nothing was learnt
    rounds: bool  # whether the task's head reads features as a cache rounds them
    meta: Mapping[str, Any]  # of the data set that was learnt from
    image_size: int
    digest: str  # SHA-256 of the encoder's arrays
    shown: Sequence[Spec]  # specs of transforms, which `transforms` builds
    crop: str  # one of CROPS, as the evaluation had it; empty if there was none

    def transforms(self, crop: str) -> tuple[Transform, ...]:
        """What gives the square that the encoder sees: of a face's box, of the whole picture, or of an aligned face."""
        shown = encoders.aligned(self.shown) if crop == ALIGNED else self.shown
        return build_transforms(shown, self.meta, size=self.image_size, whole=crop == WHOLE)


def load(name: str, *, weights: str = handover.PARAMS, dtype: str = "auto", size: int = 0) -> Loaded:
    """What a path holds: an evaluation's workdir, WORKDIR[@STEP] of a pre-training, or FILE[@LAYOUT].

    Args:
        weights: of a pre-training, see `handover.encoder`.
        dtype: of the matrix products: auto, float32 or bfloat16.
        size: pixels of a side of the images; 0 for those that the encoder was trained on.

    Raises:
        ValueError: the path is none of these, or what it holds does not fit together.
        FileNotFoundError: there is no such path, or the encoder that an evaluation judged is not there any more.
    """
    workdir = local_path("checkpoint", name)
    if (workdir / "results.json").is_file():
        return of_evaluation(workdir, dtype, size)
    handed = handover.encoder(name, weights=weights, dtype=compute_dtype(dtype))
    if not (size := size or handed.image_size or 0):
        raise ValueError(f"{name} does not say the size of its images: give it, --size=PIXELS")
    shown = (box_crop(0.0) if handed.origin["step"] is None else pretraining_crop(handed.origin["path"]),)
    return Loaded(name, handed.encoder, None, False, {}, size, handed.origin["digest"], shown, "")


def box_crop(margin: float) -> Mapping[str, Any]:
    """The spec of a crop to a face's box and a margin, or to the whole picture."""
    return spec(CropToBox, margin=margin, whole=OPEN).to_dict()


def pretraining_crop(workdir: str) -> Mapping[str, Any]:
    """The crop to a face's box that a pre-training saw, without its chance; one without a margin if it had none."""
    transforms = handover.config_of(Path(workdir)).get("data", {}).get("transforms", ())
    call = box_crop(0.0)["call"]
    margins = [each.get("margin", 0.0) for each in transforms if isinstance(each, Mapping) and each.get("call") == call]
    return box_crop(margins[0] if margins else 0.0)


def of_evaluation(workdir: Path, dtype: str, size: int) -> Loaded:
    """What an evaluation learnt, on the encoder that it judged."""
    results = Results.read(workdir / "results.json")
    config = ConfigDict(handover.tuples(results.config))
    with config.unlocked():
        config.dtype, config.remat = dtype, "none"
    if size not in (0, config.data.size):
        raise ValueError(f"{workdir} learnt from images of {config.data.size} pixels; --size={size} would be others")
    found = learnt.load(workdir / learnt.FILE, results.learnt["digest"]) if results.learnt else None
    encoder = judged(workdir, results, config, found)
    task = None if found is None else found.task(config, encoder)
    return Loaded(
        name=str(workdir),
        encoder=encoder,
        task=task,
        rounds=found is not None and found.rounds,
        meta={} if found is None else found.meta,
        image_size=config.data.size,
        digest=learnt.digest_of_encoder(encoder),
        shown=tuple(config.data.transforms),
        crop=config.data.crop,
    )


def judged(workdir: Path, results: Results, config: ConfigDict, found: learnt.Learnt | None) -> Encoder:
    """The encoder of an evaluation: what was learnt of it, or that of its checkpoint, which must be as it was."""
    if found is not None and found.encoder:
        empty = nnx.eval_shape(lambda: encoders.make_encoder(config))
        return filled(empty, found.encoder, str(workdir / learnt.FILE))
    name = checkpoint_of(results)
    try:
        encoder = encoders.load_encoder(config, name).encoder
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{workdir} keeps what was learnt on the encoder {name}, but not that, and {error}; run this where it is, "
            f"or evaluate with --config.keep={learnt.ALL}"
        ) from None
    before = found.encoder_digest if found else (results.checkpoint and results.checkpoint.digest)
    if before and before != learnt.digest_of_encoder(encoder):
        raise ValueError(f"{name} is another encoder than the one that {workdir} judged: evaluate again")
    return encoder


def checkpoint_of(results: Results) -> str:
    """What `--checkpoint` was, as exactly as results tell it: the layout of a file goes with its path."""
    checkpoint = results.checkpoint
    if checkpoint is None:
        return RANDOM
    if checkpoint.step is None and checkpoint.weights in published.names():
        return f"{checkpoint.path}@{checkpoint.weights}"
    return name_of(checkpoint)
