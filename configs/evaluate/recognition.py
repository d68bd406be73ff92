r"""Recognition: do two images show one person? Nothing is trained.

facerep evaluate --config configs/evaluate/recognition.py:dataset=manifest/faces,pairs=drawn \
    --checkpoint runs/farl --workdir results/recognition

Arguments: see configs/evaluate/landmarks.py for those that are there too. pairs: table, those of the data set's table
`pairs`; or drawn, from test images whose persons are known. unmirrored: features of images alone, without those of
their mirror images.
"""

from ml_collections import ConfigDict

from facerep_jax.config import OPEN, parse_arg, pick, spec
from facerep_jax.data import transforms
from facerep_jax.evaluation.protocols.pooled import Pooled
from facerep_jax.evaluation.results import RANDOM, SCALED
from facerep_jax.evaluation.tasks import recognition
from facerep_jax.evaluation.trial import trial
from facerep_jax.models import vit

EXAMPLES = ("pairs=drawn", "crop=whole", "variant=S/16", "variant=Nano/8,stem=384")


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        dataset="manifest/faces",
        data_dir="data",
        pairs="table",
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
        task=spec(pick("pairs", args.pairs, dict(table=recognition.Recognition, drawn=recognition.DrawnPairs))),
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
