"""What every encoder should be held against: predictions without a network, and simpler encoders."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from facerep_jax.config import parameters_of
from facerep_jax.data.arrays import Stack
from facerep_jax.evaluation.encoders import random_encoder, with_encoder
from facerep_jax.evaluation.labels import Labels
from facerep_jax.evaluation.problem import Arrays, Problem, take
from facerep_jax.evaluation.results import NETWORKS, PATCHES, RANDOM, SCALED, SCRATCH
from facerep_jax.models.patch_kmeans import PatchKMeans
from facerep_jax.suggestions import nearest
from facerep_jax.typing import Encoder

EXPLAINS = {
    RANDOM: "Random: the encoder before any training, used in the same way.",
    SCALED: "Random scaled: the same with larger initial weights, so that blocks of a narrow network change what they "
    "get as much as those of a ViT-B do.",
    SCRATCH: "Scratch: the same network, trained with its head on the labels alone.",
    PATCHES: "Patch k-means: features without a network. Each patch is whitened and described by how near it is to the "
    "centres that k-means finds in the training images, whose labels are not used (Coates and Ng 2011).",
}
FITTED = 200_000  # patches that k-means is fitted on, at most
FINEST = 8  # pixels of a side of the patches of k-means, at least


def without_network(
    wanted: Collection[str] | None, problem: Problem, labels: Sequence[Labels], meta: Mapping[str, Any]
) -> dict[str, list[np.ndarray]]:
    """Predictions of the task's baselines for each subset of the labels.

    Args:
        wanted: names of baselines, of which those of networks are left out; None for all of the task's.
        meta: of the data set.

    Raises:
        ValueError: the task has no baseline of a name.
    """
    found: dict[str, list[np.ndarray]] = {}
    names = None if wanted is None else [name for name in wanted if name not in NETWORKS]
    for subset in labels if names is None or names else ():
        made = problem.task.baselines(*learnt_from(problem, subset), problem.splits["test"], meta)
        for name in made if names is None else names:
            if name not in made:
                raise ValueError(f"no baseline {name!r}; {nearest(name, (*made, *NETWORKS))}")
            found.setdefault(name, []).append(np.asarray(made[name]))
    return found


def problem_of(who: str, problem: Problem, config: ConfigDict, unlabelled: Stack | None) -> Problem:
    """The problem for a baseline that learns by a protocol, with its encoder in place of the one that is judged.

    Args:
        unlabelled: all training images, which k-means of patches is fitted on and no other baseline needs.
    """
    if who == PATCHES:
        if unlabelled is None:
            raise ValueError(f"the baseline {PATCHES} needs training images")
        return problem.for_encoder(patch_kmeans(problem, unlabelled))
    start = config.encoder.to_dict()
    if who == SCALED:
        if "block_scale" not in parameters_of(start):
            raise ValueError(f"the baseline {SCALED} needs an encoder with a `block_scale`, such as a ViT")
        start["block_scale"] = None
    return problem._replace(encoder=random_encoder(with_encoder(config, start)), shared=None)


def patch_kmeans(problem: Problem, images: Stack) -> Encoder:
    """k-means features of patches, fitted on images, on as many as have `FITTED` patches.

    Patches are as large as those of the encoder that is judged; of one whose maps have several resolutions, as the
    finest of at least `FINEST` pixels, of those stages that the task reads, or of all if it reads the pooled feature.
    """
    taps = problem.task.taps or tuple(range(problem.encoder.stages))
    strides = sorted(problem.encoder.tap_strides(taps))
    patch = next((stride for stride in strides if stride >= FINEST), strides[-1])
    encoder = PatchKMeans(patch=patch, dtype="float32", remat="none", rngs=nnx.Rngs(0))
    rows, columns = encoder.grid((images.shape[1], images.shape[2]))
    some = np.random.default_rng(0).permutation(len(images))[: max(FITTED // (rows * columns), 1)]
    encoder.fit_images(np.asarray(images[np.sort(some)]))
    return encoder


def learnt_from(problem: Problem, subset: Labels) -> tuple[Arrays, Arrays]:
    """Training and validation examples of a subset; without validation examples, a tenth of its labels serves."""
    train, validation = problem.splits["train"], problem.splits["validation"]
    if len(subset.validation):
        return take(train, subset.train), take(validation, subset.validation)
    tenth = max(1, len(subset.train) // 10)
    return take(train, subset.train[tenth:]), take(train, subset.train[:tenth])
