"""Configs of evaluations, of which each says only what is its own."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict, config_dict

from facerep_jax.config import OPEN, Spec, locate, overridden, parse_arg, pick, spec
from facerep_jax.data import transforms
from facerep_jax.data.augmentations import FlipWithLabels
from facerep_jax.evaluation import protocols
from facerep_jax.evaluation.problem import ROLES
from facerep_jax.evaluation.protocols.finetune import from_scratch
from facerep_jax.evaluation.protocols.pooled import Pooled
from facerep_jax.evaluation.results import NETWORKS, RANDOM, SCALED
from facerep_jax.models import pooled, taps, vit

# Arguments that configs share, with their defaults; configs/evaluate/landmarks.py tells what they mean.
SHARED: dict[str, Any] = dict(
    dataset="manifest/faces",
    data_dir="data",
    random=False,
    random_scaled=False,
    size=0,
    crop="",
    margin=0.25,
    variant="",
    stem=0,
)
COMPARED = SHARED | dict(unmirrored=False)  # of tasks that compare images and learn nothing
LEARNT = SHARED | dict(  # of tasks with a head
    train="",
    fraction=1.0,
    shots=0,
    head="linear",
    protocol="linear_probe",
    steps=0,
    layer_decay=1.0,
    selection="validation",
    scratch=False,
    patch_kmeans=False,
    small=False,
)


def defaults() -> dict[str, Any]:
    """What a config need not say, see `trial`; anew for each config, which may fill its placeholder."""
    return dict(
        selection="validation",
        validation_minimum=10,
        held_out=0.1,
        baselines=config_dict.placeholder(tuple),
        predictions=1_000,
        keep="learnt",
        shots=0,
        shots_per="",
        subsets="",
        dtype="auto",
        devices=0,
        groups=config_dict.placeholder(tuple),
        corruptions=(),
    )


def shown_args(arg: str | None, **own: Any) -> ConfigDict:
    """The arguments of a config whose task has a protocol of its own, with those that are its own."""
    return parse_arg(arg, **SHARED, **own)


def learnt_args(arg: str | None, **own: Any) -> ConfigDict:
    """The arguments of a config whose task has a head, with those that are its own."""
    return parse_arg(arg, **LEARNT, **own)


def compared_args(arg: str | None, **own: Any) -> ConfigDict:
    """The arguments of a config whose task compares images by their features, with those that are its own."""
    return parse_arg(arg, **COMPARED, **own)


def learnt(
    args: ConfigDict,
    *,
    task: Spec,
    baselines: Sequence[str],
    read: Sequence[Spec] = (),
    shown: tuple[Spec, Spec] | None = None,
    augmentations: Sequence[Spec] | None = None,
    steps: int = 240,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> ConfigDict:
    """The evaluation of a task with a head, from the arguments of `learnt_args`.

    Args:
        baselines: names of those that need no network.
        read: specs of transforms that make the labels, before the crop.
        shown: specs of a transform in place of the crop to a face's box, the second of which moves about, in training.
        augmentations: specs in place of `read`, the crop moved about, and a mirror, which `small` has not.
        steps: of gradient descent with `small`.
        settings: of the protocol.
    """
    still, moved = shown or (cropped(args), cropped(args, shift=0.05, zoom=0.1))
    labels = tuple(name for name in locate(task).needs if name != "image")
    mirror = () if args.small else (spec(FlipWithLabels, labels=labels),)
    small = protocols.with_steps(args.protocol, steps=steps, batch_size=32) if args.small else {}
    said = {"steps": args.steps} if args.steps else {}
    protocol = spec(protocols.by_name(args.protocol), **{**small, **settings, **said})
    return trial(
        task=task,
        protocol=protocol if args.layer_decay == 1 else layer_decayed(args.protocol, protocol, args.layer_decay),
        scratch=from_scratch(steps=1_500, batch_size=32) if args.small else from_scratch(),
        baselines=(*baselines, *(name for name in NETWORKS if args[name])),
        selection=args.selection,
        fraction=args.fraction,
        shots=args.shots,
        transforms=(*read, still),
        augmentations=(*read, moved, *mirror) if augmentations is None else augmentations,
        train_set=args.train,
        **shared(args),
    )


def layer_decayed(name: str, protocol: ConfigDict, decay: float) -> ConfigDict:
    """A protocol by which each layer of the encoder learns slower than the one above, see `train.layer_decay`.

    Raises ValueError if it does not train the encoder, or not by an optimizer that can do so.
    """
    optimizer = protocol.get("optimizer", {})
    if not protocols.by_name(name).trains_encoder or "layer_decay" not in optimizer:
        raise ValueError(f"layer_decay is for protocols that train the encoder, such as protocol=finetune, not {name}")
    optimizer.layer_decay = decay
    return protocol


def compared(
    args: ConfigDict,
    *,
    task: Spec,
    baselines: Sequence[str] = ("pixels",),
    protocol: Spec | None = None,
    read: Sequence[Spec] = (),
) -> ConfigDict:
    """The evaluation of a task without a head, from the arguments of `compared_args`.

    Args:
        args: those of `shown_args` if the protocol is given.
        baselines: names of those that need no network.
        protocol: spec, by default of pooled features.
        read: specs of transforms that make the labels, before the crop.
    """
    return trial(
        task=task,
        protocol=spec(Pooled, mirrored=not args.unmirrored) if protocol is None else protocol,
        baselines=(*baselines, *(name for name in (RANDOM, SCALED) if args[name])),
        seeds=(0,),
        transforms=(*read, cropped(args)),
        augmentations=(*read, cropped(args)),
        **shared(args),
    )


def shared(args: ConfigDict) -> dict[str, Any]:
    """What `SHARED` arguments say of the data set and of the encoder, for `trial`."""
    stem = args.stem or None  # None says nothing of a checkpoint's
    encoder = spec(vit.ViT, variant=args.variant, stem=stem, image_size=OPEN, unroll=4) if args.variant else {}
    return {name: args[name] for name in ("dataset", "data_dir", "size", "crop")} | {"encoder": encoder}


def cropped(args: ConfigDict, **moved: float) -> Spec:
    """The spec of the crop to a face's box, which may be moved about."""
    return spec(transforms.CropToBox, margin=args.margin, whole=OPEN, **moved)


def one_vector(name: str, *, linear: type = pooled.Linear) -> dict[str, Any]:
    """Taps and head, by its name, of a task that reads one vector of an image: linear; or facer, of four stages.

    Args:
        linear: the class of the linear head.
    """
    heads = dict(
        linear=dict(taps=(), head=spec(linear)),
        facer=dict(taps=taps.QUARTERS, head=spec(pooled.Layers)),
    )
    return pick("head", name, heads)


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

    fraction: of the training labels; or shots, so many of each person or class; seeds: of the subsets, one each.
    shots_per: identity or class; "" for the classes of a task that has them, and else for persons.
    subsets: a file that lists the labelled examples in place of a fraction or shots, see `label_lists`; "" for none.
    selection: validation, last or test_best. validation_minimum: validation labels, however small the fraction.
    held_out: share of the training split that serves as validation split where the data set has none.
    baselines: names of the task's, None for all of these, and of those that learn, see `results.NETWORKS`; scratch: the
    protocol of the baseline of that name.
    predictions: test examples, evenly spaced, whose predictions are kept. keep: of the network of the first subset, for
    `facerep predict`: learnt, what it learnt; all, its encoder too; or nothing.
    dtype: of the encoder's matrix products, auto, float32 or bfloat16. devices: that encode and fine-tune, 0 for all.
    groups: names of what breaks the result down, see `conditions.axes_of`; None for all that records tell, () for none.
    corruptions: kinds of those that the test images are scored under too, see `corruptions`; ("all",) for each.
    data_dir; splits: role -> name of the data set's split. train_set: a data set whose splits for training and
    validation are used in place of those of `dataset`, see `sets`; "" for none.
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
        data=dict(data_dir="data", splits={role: role for role in ROLES}, train_set="", size=0, crop=""),
        encoder=ConfigDict(),
        encoder_seed=0,
        weights="params",
        remat="dots_with_no_batch_dims_saveable",
    )
    whole = overridden(known, overrides)
    whole["data"] |= dict(dataset=dataset, transforms=tuple(transforms), augmentations=tuple(augmentations))
    return ConfigDict(whole | dict(task=task, protocol=protocol))
