r"""Landmarks on faces of one's own, at a fraction of the labels.

facerep evaluate --config configs/evaluate/landmarks_manifest.py:dataset=manifest/faces,fraction=0.1 \
    --checkpoint runs/farl --workdir results/landmarks

Arguments: dataset, data_dir, crop (box: the face's box and a margin; whole: the whole image), head, fraction of the
labels, protocol (linear_probe, frozen or finetune), selection (validation, last or test_best), scratch (adds the
baseline of that name), the encoder's variant and size.
Five subsets of the labels; head and step are chosen on validation.
Heads are linear, or farl: UPerHead and heatmaps, with FaRL's augmentations for landmarks (2112.03109), which protocols
that see images use. Without an accelerator take fewer than FaRL's 768 channels: --config.task.head.dense.channels=64.
"""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import augmentations, transforms
from facerep_jax.evaluation import protocols
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
        scratch=False,
        variant="B/16",
        size=224,
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
    return ConfigDict(
        dict(
            task=spec(landmarks.Landmarks, points=68, **pick("head", args.head, choices)),
            protocol=spec(protocols.by_name(args.protocol)),
            scratch=spec(
                protocols.FineTune,
                steps=10_000,
                batch_size=40,
                learning_rate=1e-3,
                encoder_multiplier=1.0,
                warmup_steps=200,
                weight_decay=0.05,
            ),
            selection=args.selection,
            validation_minimum=10,
            baselines=("mean_shape", "pixel_ridge", *(("scratch",) if args.scratch else ())),
            predictions=1_000,
            fraction=args.fraction,
            seeds=(0, 1, 2, 3, 4),
            data=dict(
                dataset=args.dataset,
                data_dir=args.data_dir,
                train_split="train",
                validation_split="validation",
                test_split="test",
                transforms=(crop,),
                augmentations=pick("head", args.head, augmented),
            ),
            encoder=spec(vit.ViT, variant=args.variant, image_size=args.size, unroll=4),
            encoder_seed=0,
            weights="params",
            remat="dots_with_no_batch_dims_saveable",
        )
    )
