"""SwAV with multi-crop, by which FRL (2103.16554) pre-trains on faces without labels.

facerep pretrain --config configs/pretrain/swav.py:dataset=manifest/faces --workdir runs/swav

Arguments:
  encoder: resnet, which is the paper's, or vit, which is ours; `variant` of it, 50 and B/16 by default;
  `dataset` and its `data_dir`; `size` of the large crops in pixels, and `small` of the small ones;
  batch over all devices; epochs of 3,141,890 images, as VGGFace2's training split has; prototypes;
  norm_groups: groups of the batch within which batch normalisation takes its statistics;
  smoke: two steps of a tiny network on faces drawn as they are read.

What each value rests on (FRL's launcher is a template that names ImageNet and crashes):
  verified in FRL's code: ResNet-50 v1.5; 2 crops of 224 pixels of 14 to 100 % of the image and 6 of 96 pixels of 5 to
    14 %, as in SwAV, with its colours, greys and blur; projector 2048-2048-128, 3000 prototypes, temperature 0.1,
    epsilon 0.05, 3 rounds; LARC without clipping at 0.001, momentum 0.9, weight decay 1e-6, rate from 0.3 to 4.8 in 10
    epochs, then a cosine to 0.0048; prototypes frozen for 313 steps; 400 epochs; deviation 0.228 of red; statistics of
    groups of eight devices;
  inferred: a batch of 4096, of which the rate of 4.8 is (0.3 for each 256) and which 64 devices of 64 images give; the
    launcher has 1024, which is too few for 3000 prototypes without a queue;
  unknown: the paper's own batch and epochs on each data set.
Changed: the mirror comes before the colours, as in SwAV; `norm_groups` is 1, statistics of the whole batch, where 8 is
published for 64 devices. A learning rate for other batches is taken from the same rule.
"""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import augmentations, multi_crop
from facerep_jax.models import resnet, vit
from facerep_jax.objectives import swav
from facerep_jax.train import larc
from facerep_jax.train.recipe import recipe

EXAMPLES = ("encoder=vit", "smoke")
IMAGES = 3_141_890  # of an epoch
FROZEN_STEPS = 313  # of the prototypes


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        encoder="resnet",
        variant="",
        dataset="generated_faces/default",
        data_dir="data",
        size=224,
        small=96,
        batch=4096,
        epochs=400,
        prototypes=3000,
        norm_groups=1,
        smoke=False,
    )
    if args.smoke:
        args.variant, args.size, args.small, args.batch, args.prototypes = "", 48, 24, 16, 12
        args.dataset = "generated_faces:size=48,train=64,validation=0,test=0"
    epoch = max(1, IMAGES // args.batch)
    rate = 0.3 * args.batch / 256
    tiny = dict(channels=8, blocks=(1, 1, 1, 1)) if args.smoke else {}
    encoders = dict(
        resnet=spec(
            resnet.ResNet, variant=args.variant or "50", std=(0.228, 0.224, 0.225), norm_groups=args.norm_groups, **tiny
        ),
        vit=spec(vit.ViT, variant=args.variant or ("Nano/8" if args.smoke else "B/16"), image_size=args.size),
    )
    looks = (
        spec(multi_crop.Mirror),
        spec(multi_crop.ColourJitter),
        spec(augmentations.Grey, probability=0.2),
        spec(multi_crop.GaussianBlur),
    )
    return recipe(
        steps=2 if args.smoke else args.epochs * epoch,
        dataset=args.dataset,
        data_dir=args.data_dir,
        transforms=(spec(multi_crop.MultiCrop, size=args.size, small_size=args.small, augmentations=looks),),
        batch_size=args.batch,
        encoder=pick("encoder", args.encoder, encoders),
        objective=spec(
            swav.SwAV,
            prototypes=args.prototypes,
            hidden=32 if args.smoke else 2048,
            width=16 if args.smoke else 128,
            norm_groups=args.norm_groups,
        ),
        optimizer=spec(
            larc.larc,
            learning_rate=rate,
            schedule=spec(
                larc.warmup_cosine, first=0.3, last=rate / 1000, warmup_steps=0 if args.smoke else 10 * epoch
            ),
            freeze=(("prototypes$", 1 if args.smoke else FROZEN_STEPS),),
        ),
        log_every=1 if args.smoke else 50,
    )
