r"""Supervised pre-training by identity, attributes and numbers: the rival of FRL's comparison (2103.16554).

facerep pretrain --config configs/pretrain/supervised.py:dataset=manifest/faces,classes=8631 --workdir runs/supervised

Arguments:
  head: arcface, cosface, adaface or softmax; classes: identities at least as many as the data set's; 0 for none;
  parts of the classes, as many as devices or a multiple, which then each hold theirs; share of them that take part in
  a step, see `objectives.supervised`;
  attributes: how many the data set has, to learn them too; number: a feature such as valence or age, to learn it too,
  with its `mean` and `unit`;
  encoder: iresnet, resnet or vit; `variant` of it, 50, 50 and B/16 by default; size of the images in pixels;
  `dataset` and its `data_dir`; crop: box, the face's box and a margin; whole; align, by five points;
  control: random, labels drawn at random; own, each image a class of its own, see `data.labels`;
  batch over all devices; epochs of 5,179,510 images;
  smoke: two steps of a tiny network on faces drawn as they are read.

Out of the domain: `dataset=generated_objects/default`, things that are no faces (`crop=whole`).

What each value rests on:
  verified in insightface's code (ms1mv3_r50): IResNet-50 of 112 pixels and 512 dimensions, ArcFace with margin 0.5 and
    scale 64, CosFace with 0.4, 8 x 128 images, SGD with momentum 0.9 and weight decay 5e-4 of all parameters, a rate of
    0.1 that falls to 0 in a straight line, 20 epochs, a global norm of the gradient of at most 5, mirrored images;
  verified in AdaFace's code: margin 0.4, concentration 0.333, scale 64;
  unknown: FRL's supervised networks, their loss and settings.
Changed: the gradient is clipped as a whole, with the classes', insightface's without. Faces are cut out by their boxes
unless `crop=align` is given, whose template is not insightface's.
"""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import alignment, labels, transforms
from facerep_jax.models import iresnet, margins, resnet, vit
from facerep_jax.objectives import attributes, combined, regression, supervised
from facerep_jax.train import sgd
from facerep_jax.train.recipe import recipe

EXAMPLES = (
    *("head=softmax", "encoder=resnet", "encoder=vit", "parts=8,share=0.5", "crop=whole", "control=random", "smoke"),
    *("number=valence,mean=0.5", "number=valence,unit=2", "smoke,classes=0,attributes=21,number=arousal"),
)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        head="arcface",
        classes=93_431,
        parts=1,
        share=1.0,
        attributes=0,
        number="",
        mean=0.0,
        unit=1.0,
        encoder="iresnet",
        variant="",
        size=112,
        dataset="generated_faces/default",
        data_dir="data",
        crop="box",
        control="",
        batch=1024,
        epochs=20,
        smoke=False,
    )
    if args.smoke:
        args.size, args.batch, args.classes = 48, 16, args.classes and 64
        args.dataset = "generated_faces:size=48,train=64,validation=0,test=0"
    tiny = dict(channels=8, blocks=(1, 1, 1, 1)) if args.smoke else {}
    encoders = dict(
        iresnet=spec(iresnet.IResNet, variant=args.variant or "50", image_size=args.size, **tiny),
        resnet=spec(resnet.ResNet, variant=args.variant or "50", **tiny),
        vit=spec(vit.ViT, variant=args.variant or ("Nano/8" if args.smoke else "B/16"), image_size=args.size),
    )
    heads = dict(
        arcface=spec(margins.ArcFace), cosface=spec(margins.CosFace), adaface=spec(margins.AdaFace), softmax=None
    )
    margin = pick("head", args.head, heads)
    crops = dict(
        box=spec(transforms.CropToBox, size=args.size, margin=0.25),
        whole=spec(transforms.Resize, size=args.size),
        align=spec(alignment.AlignToTemplate, size=args.size),
    )
    steps = [pick("crop", args.crop, crops), spec(transforms.Flip, captions=())]
    terms = {}
    if args.classes:
        terms["identity"] = spec(
            supervised.Supervised, classes=args.classes, margin=margin, parts=args.parts, share=args.share
        )
        steps.append(spec(labels.Identities, classes=args.classes, control=args.control))
    if args.attributes:
        terms["attributes"] = spec(attributes.Attributes, count=args.attributes)
    if args.number:
        terms["number"] = spec(regression.Regression, label=args.number, mean=args.mean, unit=args.unit)
    if not terms:
        raise ValueError("nothing is to be learnt: give classes, attributes or number")
    return recipe(
        steps=2 if args.smoke else args.epochs * 5_179_510 // args.batch,
        dataset=args.dataset,
        data_dir=args.data_dir,
        transforms=tuple(steps),
        batch_size=args.batch,
        encoder=pick("encoder", args.encoder, encoders),
        objective=spec(combined.Combined, terms=terms),
        optimizer=spec(
            sgd.sgd,
            learning_rate=0.1 * args.batch / 1024,
            schedule=spec(sgd.straight),
            weight_decay=5e-4,
            clip_norm=5.0,
        ),
        sharding_rules=((r"/classes$", ("fsdp", None, None)),) if args.classes and args.parts > 1 else (),
        log_every=1 if args.smoke else 50,
    )
