"""FRL's rivals small enough to learn something in minutes on two cores, for configs/study/frl.py.

facerep pretrain --config configs/pretrain/frl_nano.py:objective=swav,dataset=manifest/faces --workdir runs/swav

Arguments: dataset and data_dir; steps; the size of the images in pixels; objective: swav, moco, simsiam, byol or dino,
which learn from crops; identity, of as many `classes` as the data set has, or the attributes of drawn faces, which
learn from labels; control: random, labels of identity drawn at random; crop: box, the face's box and a margin, of which
crops are then taken; whole, the whole image; stem: hidden units of the patch embedding, 0 for the published linear one.
Changed against the configs of these names: everything is small, and laid out for CPUs (`unroll`, `remat`); encoder,
batch, optimizer and schedule are those of configs/pretrain/farl_nano.py for all of them, so that studies can compare
them. Crops hold at least 30 % of the face's surroundings, small ones 10 to 30 %, since faces are 48 pixels wide.
Teachers follow with a momentum from 0.99 to 1. Prototypes, 32 of SwAV and 512 of DINO, stay as they were drawn, and
SwAV's epsilon and the temperature of DINO's teacher are 0.02: as published, both use all prototypes alike after 500
steps, and learn nothing. Identity is a softmax over cosines without a margin, since with one none of 2,000 persons is
told after 500 steps.
"""

from ml_collections import ConfigDict

from facerep_jax import schedules
from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import augmentations, labels, multi_crop, transforms
from facerep_jax.models import crops, margins, vit
from facerep_jax.objectives import (
    attributes,
    byol,
    combined,
    dino,
    momentum_contrast,
    simsiam,
    supervised,
    swav,
)
from facerep_jax.train.recipe import nano

EXAMPLES = (
    *(f"objective={name}" for name in ("moco", "simsiam", "byol", "dino", "attributes", "identity,control=random")),
    *("crop=whole", "objective=identity,crop=whole,classes=3000", "stem=0"),
)
PATCH = 8
ATTRIBUTES = 21  # of a drawn face
SMALL = {"swav": 4, "dino": 4}  # small crops of an image


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        dataset="generated_faces/demo",
        data_dir="data",
        crop="box",
        steps=1200,
        size=48,
        stem=384,
        objective="swav",
        classes=2000,
        control="",
    )
    momentum = spec(schedules.cosine, first=0.99, last=1.0)
    objectives = dict(
        swav=spec(swav.SwAV, small=SMALL["swav"], prototypes=32, hidden=256, width=64, epsilon=0.02),
        moco=spec(
            combined.Combined,
            terms=dict(
                moco=spec(
                    momentum_contrast.MomentumContrast,
                    patches=spec(crops.Crop, index=1),
                    symmetric=True,
                    hidden=256,
                    width=64,
                    projector_layers=3,
                    predictor_norm=True,
                    contrast_group=0,
                    norm_rows=0,
                    momentum=momentum,
                )
            ),
            views=dict(kept=spec(crops.Crop, index=0)),
        ),
        simsiam=spec(simsiam.SimSiam, hidden=256, bottleneck=64),
        byol=spec(byol.BYOL, hidden=256, width=64, momentum=momentum),
        dino=spec(
            dino.DINO,
            small=SMALL["dino"],
            prototypes=512,
            hidden=256,
            bottleneck=64,
            momentum=momentum,
            teacher_temperature=spec(schedules.constant, value=0.02),
        ),
        identity=spec(
            supervised.Supervised, classes=args.classes, margin=spec(margins.CosFace, margin=0.0, scale=16.0)
        ),
        attributes=spec(attributes.Attributes, count=ATTRIBUTES),
    )
    return nano(
        steps=args.steps,
        dataset=args.dataset,
        data_dir=args.data_dir,
        transforms=looks(args.objective, args.crop, args.size, args.classes, args.control),
        encoder=spec(vit.ViT, variant=f"Nano/{PATCH}", stem=args.stem or None, image_size=args.size, unroll=4),
        objective=pick("objective", args.objective, objectives),
        fixed=("prototypes$",) if args.objective in SMALL else (),
    )


def looks(objective: str, crop: str, size: int, classes: int, control: str) -> tuple[ConfigDict, ...]:
    """What an objective sees of an image: crops of the face's surroundings, or the face as FaRL sees it."""
    if objective in ("identity", "attributes"):
        faces = dict(
            box=spec(transforms.CropToBox, size=size, margin=0.25, shift=0.08, zoom=0.15),
            whole=spec(transforms.RandomResizedCrop, size=size, scale=(0.7, 1.0)),
        )
        labelled = (spec(labels.Identities, classes=classes, control=control),) if objective == "identity" else ()
        return (pick("crop", crop, faces), *labelled)
    around = dict(box=(spec(transforms.CropToBox, size=size * 4 // 3, margin=0.4),), whole=())
    colours = (
        spec(multi_crop.Mirror),
        spec(multi_crop.ColourJitter, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1),
        spec(augmentations.Grey, probability=0.2),
    )
    blurred = (*colours, spec(multi_crop.GaussianBlur, most=1.0))
    small = SMALL.get(objective, 0)
    return (
        *pick("crop", crop, around),
        spec(
            multi_crop.MultiCrop,
            size=size,
            scale=(0.3, 1.0),
            small_size=size // 2,
            small_count=small,
            small_scale=(0.1, 0.3),
            augmentations=blurred,
        ),
    )
