"""The encoder that an evaluation judges, and the same one before any training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx
from ml_collections import ConfigDict

from facerep_jax.config import Spec, build, difference, locate, plain, spec, taken
from facerep_jax.data.alignment import ARCFACE, AlignToTemplate
from facerep_jax.data.library import Dataset
from facerep_jax.data.meta import CROPS
from facerep_jax.data.transforms import CropToBox
from facerep_jax.evaluation.results import RANDOM, SCRATCH
from facerep_jax.evaluation.sets import Sets
from facerep_jax.train import handover
from facerep_jax.train.handover import tuples
from facerep_jax.train.hardware import compute_dtype
from facerep_jax.train.model import arrays_of, filled
from facerep_jax.train.state import abstract, merge, split
from facerep_jax.typing import Encoder

ALIGNED = CROPS[-1]


class Loaded(NamedTuple):
    """An encoder, and where it came from."""

    encoder: Encoder
    spec: Mapping[str, Any]  # of the encoder
    image_size: int | None  # pixels of a side of the images that it was trained on; None if that is not known
    origin: Any  # path, step, weights and digest, or `random`


def load_encoder(config: ConfigDict, name: str) -> Loaded:
    """The encoder that `--checkpoint` names; its spec may say no other than the config's, as far as that says any."""
    if name == RANDOM:
        described = random_spec(config)
        encoder = random_encoder(with_encoder(config, described))
        return Loaded(encoder, described, described.get("image_size"), RANDOM)
    if name == SCRATCH and not Path(name).is_dir():
        raise ValueError("scratch is a baseline beside an encoder, not one: name it in --config.baselines")
    handed = handover.encoder(name, weights=config.weights, remat=config.remat)
    here = {name: value for name, value in plain(config.encoder).items() if value is not None}  # None says nothing
    if here:
        require_same(plain(handed.spec), here, name)
    described = tuples({**handed.spec, **here})
    encoder = nnx.eval_shape(lambda: make_encoder(with_encoder(config, described)))
    encoder = filled(encoder, arrays_of(handed.encoder), f"the checkpoint {name}")
    return Loaded(encoder, described, handed.image_size, handed.origin)


def require_same(trained: Mapping[str, Any], here: Mapping[str, Any], name: str) -> None:
    """Raises ValueError if two specs of encoders differ in a setting that both say and that features depend on."""
    shared = [key for key in here if key in trained and key not in locate(here).no_matter]
    if changes := difference({k: trained[k] for k in shared}, {k: here[k] for k in shared}):
        raise ValueError(f"the checkpoint {name} holds another encoder than config.encoder: {'; '.join(changes)}")


def random_spec(config: ConfigDict) -> dict[str, Any]:
    """The spec of the encoder before any training, which the config must say, for images of `config.data.size`."""
    described, size = config.encoder.to_dict(), config.data.get("size")
    if not described or not (size or described.get("image_size")):
        raise ValueError(
            "--checkpoint random needs an encoder and the size of its images: "
            "add variant=SIZE/PATCH,size=PIXELS to the arguments of the config"
        )
    return described | taken(described, {"image_size": size})


def make_encoder(config: ConfigDict) -> Encoder:
    """The config's encoder before any training."""
    dtype = compute_dtype(config.get("dtype", "auto"))
    return build(config.encoder, dtype=dtype, remat=config.remat, rngs=nnx.Rngs(params=config.encoder_seed))


def random_encoder(config: ConfigDict) -> Encoder:
    """`make_encoder`, compiled: eager initialisation takes seconds."""
    graph, _, _, _ = abstract(lambda: make_encoder(config))
    return merge(graph, *jax.jit(lambda: split(make_encoder(config))[1:])())


def with_encoder(config: ConfigDict, described: Mapping[str, Any]) -> ConfigDict:
    """A config with another encoder."""
    whole = config.copy_and_resolve_references()
    with whole.unlocked():
        whole.encoder = ConfigDict(described)
    return whole


def settled(config: ConfigDict, sets: Sets, loaded: Loaded) -> ConfigDict:
    """A config with what it leaves to checkpoint and data sets: the encoder, the size of its images, the crop."""
    whole = with_encoder(config, loaded.spec)
    size = config.data.get("size") or loaded.image_size
    if not size:
        raise ValueError("the checkpoint does not say the size of its images: add size=PIXELS to the arguments")
    crop, of_train = (crop_of(dataset, config.data.get("crop")) for dataset in (sets.test, sets.train))
    if crop != of_train:
        raise sets.unlike("what is shown of an image", of_train, f"{crop}, unless crop says it for both,")
    with whole.unlocked():
        whole.data.size = size
        whole.data.crop = crop
        for name in ("transforms", "augmentations") if crop == ALIGNED else ():
            whole.data[name] = (found := aligned(whole.data[name]))
            if found == tuple(config.data[name]):
                raise ValueError(f"crop={ALIGNED} stands in for the crop to a box, and data.{name} has none")
    return whole


def aligned(transforms: Sequence[Spec]) -> tuple[Spec, ...]:
    """Specs of transforms with alignment to insightface's template where they crop to a face's box."""
    align, box = spec(AlignToTemplate, template=ARCFACE), spec(CropToBox)["call"]
    return tuple(align if each["call"] == box else each for each in transforms)


def crop_of(dataset: Dataset, wanted: str | None) -> str:
    """What is shown of an image, one of CROPS: as wanted, else as the data set says, else its boxes if it has any.

    Raises:
        ValueError: what is wanted is none of them.
    """
    crop = wanted or dataset.meta.get("crop") or ("box" if "bbox" in dataset.features else "whole")
    if crop not in CROPS:
        raise ValueError(f"crop is {', '.join(CROPS[:-1])} or {CROPS[-1]}, not {crop!r}")
    return crop
