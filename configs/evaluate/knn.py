r"""Retrieval: which test images show the same person? Nothing is trained.

facerep evaluate --config configs/evaluate/knn.py:dataset=manifest/faces \
    --checkpoint runs/farl --workdir results/knn

Arguments: see configs/evaluate/landmarks.py for those that are there too; the data set has identities. unmirrored:
features of images alone, without those of their mirror images.
"""

from ml_collections import ConfigDict

from facerep_jax.config import OPEN, parse_arg, spec
from facerep_jax.data import transforms
from facerep_jax.evaluation.protocols.pooled import Pooled
from facerep_jax.evaluation.results import RANDOM, SCALED
from facerep_jax.evaluation.tasks import knn
from facerep_jax.evaluation.trial import trial
from facerep_jax.models import vit

EXAMPLES = ("crop=whole", "variant=S/16", "variant=Nano/8,stem=384")


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        dataset="manifest/faces",
        data_dir="data",
        unmirrored=False,
        random=False,
        random_scaled=False,
        size=0,
        crop="",
        margin=0.25,
        variant="",
        stem=0,
    )
    shown = (spec(transforms.CropToBox, margin=args.margin, whole=OPEN),)
    return trial(
        task=spec(knn.KNN),
        protocol=spec(Pooled, mirrored=not args.unmirrored),
        baselines=("pixels", *(name for name in (RANDOM, SCALED) if args[name])),
        seeds=(0,),
        dataset=args.dataset,
        data_dir=args.data_dir,
        size=args.size,
        crop=args.crop,
        transforms=shown,
        augmentations=shown,
        encoder=spec(vit.ViT, variant=args.variant, stem=args.stem or None, image_size=OPEN, unroll=4)
        if args.variant
        else {},
    )
