r"""Parsing of faces of one's own, at a fraction of the labels.

facerep evaluate --config configs/evaluate/parsing_manifest.py:dataset=manifest/faces,fraction=0.1 \
    --checkpoint runs/farl --workdir results/parsing

Arguments: as of configs/evaluate/landmarks_manifest.py, and `cells`: parts of a side of each patch that have logits of
their own under a linear head.
FaRL's head comes with FaRL's augmentations for parsing (2112.03109), which protocols that see images use; frozen and
finetune have FaRL's settings then and its number of steps on LaPa. Without an accelerator take fewer than its 768
channels, --config.task.head.channels=64, and of its steps, --config.protocol.steps=1000 --config.protocol.ema=0.99.
"""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import augmentations, transforms
from facerep_jax.evaluation import protocols
from facerep_jax.evaluation.protocols import finetune
from facerep_jax.evaluation.tasks import parsing
from facerep_jax.models import heads, uper, vit


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
        cells=4,
    )
    depth = vit.sizes_of(args.variant).depth
    choices = dict(
        linear=dict(taps=tuple(range(depth // 4 - 1, depth, depth // 4)), head=spec(heads.PerToken, cells=args.cells)),
        farl=dict(taps=uper.taps_of(depth), head=spec(uper.UPerHead)),
    )
    margin = 0.25 if args.crop == "box" else 0.0
    crops = dict(
        box=spec(transforms.CropToBox, size=args.size, margin=margin), whole=spec(transforms.Resize, size=args.size)
    )
    crop = pick("crop", args.crop, crops)
    own = protocols.as_farl(args.protocol, steps=136_500, learning_rate=1e-3, milestones=(2 / 3,))
    settings = own if args.head == "farl" else {}
    if (args.protocol, args.head) == ("linear_probe", "linear"):
        settings = dict(learning_rates=(0.05, 0.2))  # a linear head alone bears them
    augmented = dict(
        linear=(crop,),
        farl=(
            spec(
                augmentations.RandomAffine,
                size=args.size,
                margin=margin,
                shift=0.01,
                angle_rad=0.314,
                zoom=0.1,
                normal=True,
                whole=args.crop == "whole",
            ),
            spec(augmentations.Grey),
            spec(augmentations.Gamma),
            spec(augmentations.BoxBlur),
        ),
    )
    return ConfigDict(
        dict(
            task=spec(parsing.Parsing, **pick("head", args.head, choices)),
            protocol=spec(protocols.by_name(args.protocol), **settings),
            scratch=finetune.scratch(steps=10_000, batch_size=40),
            selection=args.selection,
            validation_minimum=10,
            baselines=("most_frequent_class", *(name for name in ("random", "scratch") if args[name])),
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
