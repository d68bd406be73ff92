r"""Parsing of generated faces, at a fraction of the labels.

facerep evaluate --config configs/evaluate/parsing_generated_faces.py:dataset=generated_faces/labelled,fraction=0.1 \
    --checkpoint runs/demo --workdir results/parsing

Arguments: as of configs/evaluate/landmarks_generated_faces.py, and `cells`: parts of a side of each patch that
have logits of their own under a linear head.
FaRL's head comes with FaRL's augmentations for parsing (2112.03109), which protocols that see images use. Their
settings are not FaRL's, which are for twenty thousand steps and more: configs/evaluate/parsing_manifest.py has them.
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
        steps=500,
        cells=8,
    )
    depth = vit.sizes_of(args.variant).depth
    choices = dict(
        linear=dict(taps=tuple(range(depth // 4 - 1, depth, depth // 4)), head=spec(heads.PerToken, cells=args.cells)),
        farl=dict(taps=uper.taps_of(depth), head=spec(uper.UPerHead, channels=64)),
    )
    alone = (args.protocol, args.head) == ("linear_probe", "linear")
    settings = dict(learning_rates=(0.2,)) if alone else {}  # a linear head alone bears them
    augmented = dict(
        linear=(spec(transforms.CropToBox, size=args.size, margin=0.25, shift=0.05, zoom=0.1),),
        farl=(
            spec(
                augmentations.RandomAffine,
                size=args.size,
                margin=0.25,
                shift=0.01,
                angle_rad=0.314,
                zoom=0.1,
                normal=True,
            ),
            spec(augmentations.Grey),
            spec(augmentations.Gamma),
            spec(augmentations.BoxBlur),
        ),
    )
    return ConfigDict(
        dict(
            task=spec(parsing.Parsing, **pick("head", args.head, choices)),
            protocol=spec(protocols.by_name(args.protocol), steps=args.steps, batch_size=32, **settings),
            scratch=finetune.scratch(steps=1_500, batch_size=32),
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
                transforms=(spec(transforms.CropToBox, size=args.size, margin=0.25),),
                augmentations=pick("head", args.head, augmented),
            ),
            encoder=spec(vit.ViT, variant=args.variant, image_size=args.size, unroll=4),
            encoder_seed=0,
            weights="params",
            remat="dots_with_no_batch_dims_saveable",
        )
    )
