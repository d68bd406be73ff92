"""Configs of evaluations, of which each says only what is its own."""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict, config_dict

from facerep_jax.config import Spec, overridden
from facerep_jax.evaluation.problem import ROLES
from facerep_jax.evaluation.protocols.finetune import from_scratch


def defaults() -> dict[str, Any]:
    """What a config need not say, see `trial`; anew for each config, which may fill its placeholder."""
    return dict(
        selection="validation",
        validation_minimum=10,
        held_out=0.1,
        baselines=config_dict.placeholder(tuple),
        predictions=1_000,
        dtype="auto",
        devices=0,
    )


def trial(
    *,
    task: Spec,
    protocol: Spec,
    dataset: str,
    transforms: Sequence[Spec],
    augmentations: Sequence[Spec],
    **overrides: Any,
) -> ConfigDict:
    """The config of an evaluation, with all keys that it does not say itself.

    fraction: of the training labels; seeds: of the subsets, one each.
    selection: validation, last or test_best. validation_minimum: validation labels, however small the fraction.
    held_out: share of the training split that serves as validation split where the data set has none.
    baselines: names of the task's, None for all of these, and of those that learn, see `results.NETWORKS`; scratch: the
    protocol of the baseline of that name.
    predictions: test examples, evenly spaced, whose predictions are kept.
    dtype: of the encoder's matrix products, auto, float32 or bfloat16. devices: that encode and fine-tune, 0 for all.
    data_dir; splits: role -> name of the data set's split.
    size: pixels of a side of the images, 0 for those of the checkpoint; crop: box, whole, or "" for what the data set's
    meta says, else its boxes if it has any. Transforms that leave `size` and `whole` open are given these.
    encoder: a spec which the checkpoint's must match, and which `--checkpoint random` needs; {} for any.
    encoder_seed: of a random encoder; weights: of the checkpoint, params or ema; remat: name of a policy.

    Args:
        task: spec of the task; shape of the labels, size of the images and meta are given to it.
        protocol: spec of how it is learnt.
        dataset: FAMILY/NAME of a prepared data set, or FAMILY:ARGUMENTS of one that is drawn.
        transforms: specs, of all examples.
        augmentations: specs, of training examples, for protocols that see images.
        overrides: values of these keys by name; an unknown name raises ValueError.
    """
    known = defaults() | dict(
        scratch=from_scratch(),
        fraction=1.0,
        seeds=(0, 1, 2, 3, 4),
        data=dict(data_dir="data", splits={role: role for role in ROLES}, size=0, crop=""),
        encoder=ConfigDict(),
        encoder_seed=0,
        weights="params",
        remat="dots_with_no_batch_dims_saveable",
    )
    whole = overridden(known, overrides)
    whole["data"] |= dict(dataset=dataset, transforms=tuple(transforms), augmentations=tuple(augmentations))
    return ConfigDict(whole | dict(task=task, protocol=protocol))
