"""Configs of pre-training, of which each says only what is its own."""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from facerep_jax import schedules
from facerep_jax.config import OPEN, Spec, overridden, spec
from facerep_jax.data.transforms import CropToBox
from facerep_jax.train import optim

FROZEN = 0.22  # share of the steps in which a stem stays as it was drawn


def recipe(
    *,
    steps: int,
    dataset: str,
    transforms: Sequence[Spec],
    batch_size: int,
    encoder: Spec,
    objective: Spec,
    optimizer: Spec,
    **overrides: Any,
) -> ConfigDict:
    """The config of a pre-training, with all keys that it does not say itself.

    seed. log_every: steps. checkpoint_every: steps, 0 for by minutes alone; checkpoint_minutes.
    dtype: of matrix products, auto, float32 or bfloat16. remat: name of a rematerialisation policy.
    ema: decay of an average of the weights, 0 for none.
    init: the checkpoint that the encoder starts from, empty for a random start, noted in init.json; init_weights: which
    of its weights.
    data_dir; split; weights: of the parts of a mixture, see `data.mixture`, equal if there are none.
    micro_batches: that a batch is looked at in, one after the other, for less memory and the same result.
    replica, fsdp, model: sizes of the axes of the mesh, -1 for the devices that are left.
    sharding: name of rules; sharding_rules: further ones, (regex on a path, mesh axes), which come first.

    evaluate: what the encoder is scored on while it is trained, by probes in closed form, see `evaluation.probes`. It
    changes nothing of the run. every: steps, 0 for never; the first score is that before the first step. dataset,
    data_dir: a labelled set, whose landmarks, identities and attributes are used, as far as it has them. images: of its
    train split to fit on, and of its validation split to score, at most. transforms, crop: as of an evaluation.
    weights: params or ema.

    writers: specs or names of further writers of metrics, such as ("wandb",), see `train.writers`; may change, too.

    How a run is operated, all of which may change when it goes on:
    threads, workers: that read records. keep_checkpoints: how many. processes: that must appear, 0 for any number, 1
    for this one alone; join_seconds: to wait for them. platform: gpu, tpu or cpu, on which jax must run; empty for any.
    sample_ledger: write down each step's records. nonfinite_steps: in a row that end the run. skip_ids: a file of the
    ids of records to leave out. profile_steps: the first to trace and the one after the last. peak_flops: operations
    per second of a device, 0 for what is known of its kind. compilation_cache: keep compiled programs in the workdir.

    Args:
        steps: of the optimizer.
        dataset: names of data sets, joined by +.
        transforms: specs, of each example.
        batch_size: over all devices.
        encoder, objective, optimizer: specs.
        overrides: values of these keys by name; an unknown name raises ValueError.
    """
    defaults = dict(
        seed=0,
        log_every=50,
        checkpoint_every=0,
        checkpoint_minutes=30.0,
        dtype="auto",
        remat="dots_with_no_batch_dims_saveable",
        ema=0.0,
        init="",
        init_weights="params",
        data=dict(data_dir="data", split="train", weights=(), micro_batches=1),
        mesh=dict(replica=1, fsdp=-1, model=1),
        sharding="replicated",
        sharding_rules=(),
        evaluate=ConfigDict(
            dict(
                every=0,
                dataset="",
                data_dir="data",
                images=500,
                crop="",
                transforms=(spec(CropToBox, margin=0.25, whole=OPEN),),
                weights="params",
            )
        ),
        writers=(),
        operational=dict(
            threads=8,
            workers=0,
            keep_checkpoints=3,
            processes=0,
            join_seconds=300.0,
            platform="",
            sample_ledger=False,
            nonfinite_steps=5,
            skip_ids="",
            profile_steps=(),
            peak_flops=0.0,
            compilation_cache=True,
        ),
    )
    whole = overridden(defaults, overrides)
    whole["data"] |= dict(dataset=dataset, batch_size=batch_size, transforms=tuple(transforms))
    return ConfigDict(whole | dict(steps=steps, encoder=encoder, objective=objective, optimizer=optimizer))


def nano(
    *,
    steps: int,
    dataset: str,
    data_dir: str,
    transforms: Sequence[Spec],
    encoder: Spec,
    objective: Spec,
    fixed: Sequence[str] = (),
) -> ConfigDict:
    """A recipe for minutes on two cores, with all that studies keep equal between encoders: batch, optimizer, schedule.

    A stem stays as it was drawn for the first `FROZEN` of the steps; parameters whose paths have one of the patterns of
    `fixed` do so for the whole run.
    """
    stem = (("^encoder/embed/", round(FROZEN * steps)),) if encoder.get("stem") else ()
    return recipe(
        steps=steps,
        dataset=dataset,
        data_dir=data_dir,
        transforms=transforms,
        batch_size=64,
        encoder=encoder,
        objective=objective,
        optimizer=spec(
            optim.adamw,
            learning_rate=1e-3,
            schedule=spec(schedules.warmup_cosine, warmup_steps=60),
            b2=0.98,
            weight_decay=0.05,
            clip_norm=1.0,
            freeze=(*stem, *((path, -1) for path in fixed)),
        ),
        log_every=20,
        checkpoint_minutes=5.0,
        remat="none",
        threads=4,
    )
