r"""Landmarks, at a fraction of the labels.

facerep evaluate --config configs/evaluate/landmarks.py:dataset=manifest/faces,fraction=0.1 \
    --checkpoint runs/farl --workdir results/landmarks

Arguments:
  dataset, any with landmarks, and its data_dir;
  fraction of the labels: five subsets of them are learnt from, one after the other;
  head: linear; or farl, UPerHead and heatmaps, with FaRL's augmentations for landmarks (2112.03109), which protocols
    that see images use;
  protocol: linear_probe, frozen, finetune, or ridge, which solves for the linear head in seconds; steps, where not its
    own, of all but ridge;
  selection of the head and its step: validation, last or test_best;
  random, random_scaled, scratch, patch_kmeans: add the baselines of these names;
  size of the images in pixels; without it, that of the images that the encoder was trained on;
  crop: box, the face's box and a margin; whole, the whole image; without it, what the data set says, or its boxes if it
    has any; margin: around the box on each side, as a share of it;
  variant of the encoder, such as B/16, and its `stem`, for `--checkpoint random`; a checkpoint brings its own, which
    must match;
  small: settings for tiny encoders, few steps and two cores.

With head=farl, frozen and finetune have FaRL's settings and its number of steps on 300W, so that
head=farl,protocol=finetune,size=448,margin=0.125,selection=test_best is its evaluation: the face's box then takes up
0.8 of a side, as there (on AFLW-19 all of it, margin=0); without a margin said, it takes up two thirds. Without an
accelerator take fewer than FaRL's 768 channels, --config.task.head.dense.channels=64, and of its steps,
--config.protocol.steps=1000 with --config.protocol.ema=0.99.
With `small` FaRL's head has 64 channels and heatmaps of the images' size, and frozen and finetune have none of FaRL's
settings, which are for twenty thousand steps.
"""

from typing import Any

from ml_collections import ConfigDict

from facerep_jax.config import OPEN, parse_arg, pick, spec
from facerep_jax.data import augmentations, transforms
from facerep_jax.evaluation import protocols
from facerep_jax.evaluation.protocols.finetune import from_scratch
from facerep_jax.evaluation.results import NETWORKS
from facerep_jax.evaluation.tasks import landmarks
from facerep_jax.evaluation.trial import trial
from facerep_jax.models import taps, uper, vit

EXAMPLES = (
    "head=farl",
    "head=farl,small",
    "protocol=finetune",
    "protocol=ridge",
    "selection=last",
    "crop=whole",
    "variant=S/16",
    "variant=Nano/8,stem=384",
)


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        dataset="manifest/faces",
        data_dir="data",
        fraction=1.0,
        head="linear",
        protocol="linear_probe",
        steps=0,
        selection="validation",
        random=False,
        random_scaled=False,
        scratch=False,
        patch_kmeans=False,
        size=0,
        crop="",
        margin=0.25,
        variant="",
        stem=0,
        small=False,
    )
    dense = spec(uper.UPerHead, channels=64 if args.small else 768)
    heads = dict(
        linear=dict(taps=taps.QUARTERS, head=spec(landmarks.Regression)),
        farl=dict(taps=taps.FARL, head=spec(landmarks.Heatmaps, dense=dense, size=None if args.small else 128)),
    )
    moved = dict(shift=0.05, zoom=0.1) if args.small else {}
    augmented = dict(
        linear=(spec(transforms.CropToBox, margin=args.margin, whole=OPEN, **moved),),
        farl=(
            spec(augmentations.RandomAffine, margin=args.margin, shift=0.05, angle_rad=0.174, zoom=0.1, whole=OPEN),
            spec(augmentations.BlackRectangle),
            spec(augmentations.UniformNoise),
            spec(augmentations.Grey),
            spec(augmentations.Gamma),
            spec(augmentations.BoxBlur),
        ),
    )
    stem = args.stem or None  # None says nothing of a checkpoint's
    settings: dict[str, Any] = {}
    if args.small:
        settings = protocols.with_steps(args.protocol, steps=240, batch_size=32)
    elif args.head == "farl":
        settings = protocols.as_farl(args.protocol, steps=19_750, learning_rate=1e-2, milestones=(0.8,))
    if args.steps:
        settings["steps"] = args.steps
    return trial(
        task=spec(landmarks.Landmarks, **pick("head", args.head, heads)),
        protocol=spec(protocols.by_name(args.protocol), **settings),
        scratch=from_scratch(steps=1_500, batch_size=32) if args.small else from_scratch(),
        baselines=("mean_shape", "linear_pixels", *(name for name in NETWORKS if args[name])),
        selection=args.selection,
        fraction=args.fraction,
        dataset=args.dataset,
        data_dir=args.data_dir,
        size=args.size,
        crop=args.crop,
        transforms=(spec(transforms.CropToBox, margin=args.margin, whole=OPEN),),
        augmentations=pick("head", args.head, augmented),
        encoder=spec(vit.ViT, variant=args.variant, stem=stem, image_size=OPEN, unroll=4) if args.variant else {},
    )
