r"""Landmarks on faces of one's own, at a fraction of the labels.

facerep evaluate --config configs/evaluate/landmarks_manifest.py:dataset=manifest/faces,fraction=0.1 \
    --checkpoint runs/farl --workdir results/landmarks

Arguments: dataset, data_dir, crop (box: the face's box and a margin; whole: the whole image), head, fraction of the
labels, protocol (linear_probe, frozen or finetune), selection (validation, last or test_best), random and scratch
(add the baselines of these names), the encoder's variant, the size of the images, and encoder_size, the size that the
encoder was pre-trained at, where it is another.
Five subsets of the labels; head and step are chosen on validation.
Heads are linear, or farl: UPerHead and heatmaps, with FaRL's augmentations for landmarks (2112.03109), which protocols
that see images use. With it frozen and finetune have FaRL's settings and its number of steps on 300W, so that
head=farl,protocol=finetune,size=448,encoder_size=224,selection=test_best is its evaluation but for the crop: here the
face's box takes up two thirds of a side, there 0.8 (on AFLW-19 all of it). Without an accelerator take fewer than
FaRL's 768 channels, --config.task.head.dense.channels=64, and of its steps, --config.protocol.steps=1000 with
--config.protocol.ema=0.99.
"""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import augmentations, transforms
from facerep_jax.evaluation import protocols
from facerep_jax.evaluation.protocols import finetune
from facerep_jax.evaluation.tasks import landmarks
from facerep_jax.models import uper, vit


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        dataset="manifest/faces",
        data_dir="data",
        crop="box",
        head="linear",
        fraction=1.0,
        protocol="linear_probe",
        selection="validation",
        random=False,
        scratch=False,
        variant="B/16",
        size=224,
        encoder_size=0,
    )
    depth = vit.sizes_of(args.variant).depth
    choices = dict(
        linear=dict(taps=tuple(range(depth // 4 - 1, depth, depth // 4)), head=spec(landmarks.Regression)),
        farl=dict(taps=uper.taps_of(depth), head=spec(landmarks.Heatmaps, dense=spec(uper.UPerHead))),
    )
    margin = 0.25 if args.crop == "box" else 0.0
    crops = dict(
        box=spec(transforms.CropToBox, size=args.size, margin=margin), whole=spec(transforms.Resize, size=args.size)
    )
    crop = pick("crop", args.crop, crops)
    augmented = dict(
        linear=(crop,),
        farl=(
            spec(
                augmentations.RandomAffine,
                size=args.size,
                margin=margin,
                shift=0.05,
                angle_rad=0.174,
                zoom=0.1,
                whole=args.crop == "whole",
            ),
            spec(augmentations.BlackRectangle),
            spec(augmentations.UniformNoise),
            spec(augmentations.Grey),
            spec(augmentations.Gamma),
            spec(augmentations.BoxBlur),
        ),
    )
    own = protocols.as_farl(args.protocol, steps=19_750, learning_rate=1e-2, milestones=(0.8,))
    settings = own if args.head == "farl" else {}
    return ConfigDict(
        dict(
            task=spec(landmarks.Landmarks, points=68, **pick("head", args.head, choices)),
            protocol=spec(protocols.by_name(args.protocol), **settings),
            scratch=finetune.scratch(steps=10_000, batch_size=40),
            selection=args.selection,
            validation_minimum=10,
            baselines=("mean_shape", "pixel_ridge", *(name for name in ("random", "scratch") if args[name])),
            predictions=1_000,
            fraction=args.fraction,
            seeds=(0, 1, 2, 3, 4),
            data=dict(
                dataset=args.dataset,
                data_dir=args.data_dir,
                splits=dict(train="train", validation="validation", test="test"),
                transforms=(crop,),
                augmentations=pick("head", args.head, augmented),
            ),
            encoder=spec(vit.ViT, variant=args.variant, image_size=args.encoder_size or args.size, unroll=4),
            encoder_seed=0,
            weights="params",
            remat="dots_with_no_batch_dims_saveable",
        )
    )
