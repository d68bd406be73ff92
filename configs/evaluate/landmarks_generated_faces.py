r"""Landmarks on generated faces, at a fraction of the labels.

facerep evaluate --config configs/evaluate/landmarks_generated_faces.py:dataset=generated_faces/labelled,fraction=0.1 \
    --checkpoint runs/demo --workdir results/landmarks

Arguments: dataset, data_dir, head, fraction of the labels, protocol (linear_probe, frozen or finetune) and its steps,
selection (validation, last or test_best), random and scratch (add the baselines of these names), the encoder's variant
and size.
Faces are cropped to their box and a margin. Five subsets of the labels; head and step are chosen on validation.
Heads are linear, or farl: UPerHead (of 64 channels; FaRL's 768 need an accelerator) and heatmaps (drawn at the image's
size, FaRL's at 128 pixels), with FaRL's augmentations for landmarks (2112.03109), which protocols that see images use.
Their settings are not FaRL's, which are for twenty thousand steps: configs/evaluate/landmarks_manifest.py has those.
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
        dataset="generated_faces/labelled",
        data_dir="data",
        head="linear",
        fraction=0.1,
        protocol="linear_probe",
        selection="validation",
        random=False,
        scratch=False,
        variant="Nano/8",
        size=48,
        steps=240,
    )
    depth = vit.sizes_of(args.variant).depth
    choices = dict(
        linear=dict(taps=tuple(range(depth // 4 - 1, depth, depth // 4)), head=spec(landmarks.Regression)),
        farl=dict(
            taps=uper.taps_of(depth),
            head=spec(landmarks.Heatmaps, dense=spec(uper.UPerHead, channels=64), size=args.size),
        ),
    )
    augmented = dict(
        linear=(spec(transforms.CropToBox, size=args.size, margin=0.25, shift=0.05, zoom=0.1),),
        farl=(
            spec(augmentations.RandomAffine, size=args.size, margin=0.25, shift=0.05, angle_rad=0.174, zoom=0.1),
            spec(augmentations.BlackRectangle),
            spec(augmentations.UniformNoise),
            spec(augmentations.Grey),
            spec(augmentations.Gamma),
            spec(augmentations.BoxBlur),
        ),
    )
    return ConfigDict(
        dict(
            task=spec(landmarks.Landmarks, points=68, **pick("head", args.head, choices)),
            protocol=spec(protocols.by_name(args.protocol), steps=args.steps, batch_size=32),
            scratch=finetune.scratch(steps=1_500, batch_size=32),
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
                transforms=(spec(transforms.CropToBox, size=args.size, margin=0.25),),
                augmentations=pick("head", args.head, augmented),
            ),
            encoder=spec(vit.ViT, variant=args.variant, image_size=args.size, unroll=4),
            encoder_seed=0,
            weights="params",
            remat="dots_with_no_batch_dims_saveable",
        )
    )
