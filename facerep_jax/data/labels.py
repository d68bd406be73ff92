"""Labels of identity for training: checked against the classes of a head, or drawn anew as controls."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from facerep_jax.config import pick
from facerep_jax.data.features import ALONE
from facerep_jax.data.transforms import Example, Lacking, require, text_of

CONTROLS = {"": "labels as they are", "random": "of a random class", "own": "of a class of its own"}


class Identities:
    """`identity` below a number of classes; an example without one is left out.

    Controls keep the images and take what their labels say away. "random": each image is given one of the data set's
    identities at random, once and for all, so that a network can only learn it by heart. "own": each image is given one
    of all classes, so that hardly any two share one if there are many more classes than images; what is told apart then
    is images, not persons. Source: 1611.03530, section 2, of random labels; 1805.01978 of each image as a class.
    Changed: both are drawn by a hash of the record's id, so that no table of all records is needed.

    Args:
        classes: of the head.
        control: empty for none, "random" or "own".
        seed: of a control's draw.
        meta: of the data set, whose `identities` there must not be more of than classes. If any of them has one image
            for training, their number is said in a warning.
    """

    def __init__(self, *, classes: int, control: str = "", seed: int = 0, meta: Mapping[str, Any]):
        self.reads = () if control == "own" else ("identity",)
        pick("the control of identities", control, CONTROLS)
        self.known = len(meta.get("identities", ())) or classes
        if self.known > classes and control != "own":
            raise ValueError(
                f"the data set has {self.known} identities, more than the head's {classes} classes: "
                f"set classes={self.known}"
            )
        if not control and (alone := meta.get(ALONE)):
            logging.warning(
                "%d of %d identities have one image for training, from which nothing is learnt of what two images of a "
                "person have in common: more images of each, or an objective without labels, teach more",
                alone,
                self.known,
            )
        self.classes, self.control, self.seed = classes, control, seed

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if self.control:
            count = self.classes if self.control == "own" else self.known
            draw = zlib.crc32(f"{self.seed} {text_of(example['id'])}".encode())
            return {**example, "identity": np.int32(np.random.default_rng(draw).integers(count))}
        require(example, "identity", "Identities")
        if (label := int(example["identity"])) < 0:
            raise Lacking(example, "has no identity")
        if label >= self.classes:
            raise ValueError(f"identity {label} of {text_of(example['id'])!r} is none of the head's {self.classes}")
        return example
