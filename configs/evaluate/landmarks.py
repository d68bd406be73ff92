r"""Landmarks, at a fraction of the labels.

facerep evaluate --config configs/evaluate/landmarks.py:dataset=manifest/faces,fraction=0.1 \
    --checkpoint runs/farl --workdir results/landmarks

Arguments:
  dataset, any with landmarks, and its data_dir; train, another that is learnt from, whose labels mean the same;
  fraction of the labels: five subsets of them are learnt from, one after the other; or shots, so many of each person,
    or of each class of expressions;
  head: linear; or farl, UPerHead and heatmaps, with FaRL's augmentations for landmarks (2112.03109), which protocols
    that see images use; or fan, UPerHead and FAN's heatmaps of 64 x 64 pixels, read at their maxima;
  protocol: linear_probe, frozen, finetune, lora (low-rank updates of a ViT's attention), frozen_batch_norm (fine-tuning
    of a ResNet but for its batch normalisation), ridge, which solves for the linear head in seconds, or knn, by which
    the nearest training images vote, of other tasks with classes or yes-or-no labels; steps, where not its own, of all
    but these two; layer_decay, such as 0.75, of those that train the encoder: the learning rate of each of its layers
    is so many times that of the one above;
  selection of the head and its step: validation, last or test_best;
  random, random_scaled, scratch, patch_kmeans: add the baselines of these names;
  size of the images in pixels; without it, that of the images that the encoder was trained on;
  crop: box, the face's box and a margin; whole, the whole image; aligned, the face moved to insightface's template by
    its five points, see docs/tasks/recognition.md; fan, a square about the box as FAN has it, without a margin; without
    it, what the data set says, or its boxes if it has any; margin: around the box on each side, as a share of it;
  variant of the encoder, such as B/16, and its `stem`, for `--checkpoint random`; a checkpoint brings its own, which
    must match;
  small: settings for tiny encoders, few steps and two cores.

Protocols that see images, all but linear_probe and ridge, and scratch learn from crops that are shifted by up to 0.05
of a side and zoomed by up to 0.1; half of them are mirrored if the labels can be, but not with `small`.

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

from facerep_jax.config import OPEN, pick, spec
from facerep_jax.data import augmentations, fan
from facerep_jax.evaluation import protocols
from facerep_jax.evaluation.tasks import landmarks
from facerep_jax.evaluation.trial import learnt, learnt_args
from facerep_jax.models import fan as fan_heads
from facerep_jax.models import taps, uper

EXAMPLES = (
    "head=farl",
    "head=farl,small",
    "head=fan,crop=fan",
    "head=fan,crop=fan,protocol=finetune,small",
    "protocol=finetune,layer_decay=0.75",
    "protocol=lora",
    "protocol=frozen_batch_norm",
    "protocol=ridge",
    "selection=last",
    "shots=5",
    "crop=whole",
    "variant=S/16",
    "variant=Nano/8,stem=384",
)


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    args = learnt_args(arg)
    dense = spec(uper.UPerHead, channels=64 if args.small else 768)
    heads = dict(
        linear=dict(taps=taps.QUARTERS, head=spec(landmarks.Regression)),
        farl=dict(taps=taps.FARL, head=spec(landmarks.Heatmaps, dense=dense, size=None if args.small else 128)),
        fan=dict(taps=taps.FARL, head=spec(fan_heads.FANHeatmaps, dense=dense)),
    )
    moved = spec(augmentations.RandomAffine, margin=args.margin, shift=0.05, angle_rad=0.174, zoom=0.1, whole=OPEN)
    looks = (
        spec(augmentations.BlackRectangle),
        spec(augmentations.UniformNoise),
        spec(augmentations.Grey),
        spec(augmentations.Gamma),
        spec(augmentations.BoxBlur),
    )
    shown = None
    if args.crop == "fan":
        args.crop, moved = "", spec(fan.FANCrop, whole=OPEN, shift=0.05, zoom=0.1)
        shown = (spec(fan.FANCrop, whole=OPEN), moved)
    settings: dict[str, Any] = {}
    if args.head == "farl" and not args.small:
        settings = protocols.as_farl(args.protocol, steps=19_750, learning_rate=1e-2, milestones=(0.8,))
    return learnt(
        args,
        task=spec(landmarks.Landmarks, **pick("head", args.head, heads)),
        baselines=("mean_shape", "linear_pixels"),
        shown=shown,
        augmentations=(moved, *looks) if args.head == "farl" else None,
        settings=settings,
    )
