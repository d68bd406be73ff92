r"""Attributes, yes-or-no properties of a face, at a fraction of the labels.

facerep evaluate --config configs/evaluate/attributes.py:dataset=manifest/faces,protocol=ridge \
    --checkpoint runs/farl --workdir results/attributes

Arguments: see configs/evaluate/landmarks.py; the data set has attributes. head: linear, of the pooled feature; or
facer, a weighted mean of what four stages of the encoder give, as facer's head for FaRL has it (2112.03109), which
descends a gradient. In facer's crop the face takes up about a third of a side, as with margin=1.
Changed: facer reads the stages that its weights name, in those that it gave out the last alone:
--config.task.taps='(1.0,)'.
"""

from typing import Any

from ml_collections import ConfigDict

from facerep_jax.config import OPEN, parse_arg, pick, spec
from facerep_jax.data import transforms
from facerep_jax.evaluation import protocols
from facerep_jax.evaluation.protocols.finetune import from_scratch
from facerep_jax.evaluation.results import NETWORKS
from facerep_jax.evaluation.tasks import attributes
from facerep_jax.evaluation.trial import trial
from facerep_jax.models import pooled, taps, vit

EXAMPLES = (
    "head=facer",
    "protocol=finetune",
    "protocol=ridge",
    "selection=last",
    "crop=whole",
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
    heads = dict(
        linear=dict(taps=(), head=spec(pooled.Linear)),
        facer=dict(taps=taps.QUARTERS, head=spec(pooled.Layers)),
    )
    moved = dict(shift=0.05, zoom=0.1) if args.small else {}
    settings: dict[str, Any] = protocols.with_steps(args.protocol, steps=240, batch_size=32) if args.small else {}
    if args.steps:
        settings["steps"] = args.steps
    return trial(
        task=spec(attributes.Attributes, **pick("head", args.head, heads)),
        protocol=spec(protocols.by_name(args.protocol), **settings),
        scratch=from_scratch(steps=1_500, batch_size=32) if args.small else from_scratch(),
        baselines=("most_frequent", "linear_pixels", *(name for name in NETWORKS if args[name])),
        selection=args.selection,
        fraction=args.fraction,
        dataset=args.dataset,
        data_dir=args.data_dir,
        size=args.size,
        crop=args.crop,
        transforms=(spec(transforms.CropToBox, margin=args.margin, whole=OPEN),),
        augmentations=(spec(transforms.CropToBox, margin=args.margin, whole=OPEN, **moved),),
        encoder=spec(vit.ViT, variant=args.variant, stem=args.stem or None, image_size=OPEN, unroll=4)
        if args.variant
        else {},
    )
