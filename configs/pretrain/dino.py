"""DINO (2104.14294): self-distillation with multi-crop, whose dense features are the field's strongest of its time.

facerep pretrain --config configs/pretrain/dino.py:dataset=manifest/faces --workdir runs/dino

Arguments: encoder: vit or resnet; `variant` of it, S/16 and 50 by default; `dataset` and its `data_dir`; `size` of the
large crops in pixels, and `small` of the small ones; batch over all devices; epochs of 3,141,890 images; prototypes;
smoke: two steps of a tiny network on faces drawn as they are read.

Verified in facebookresearch/dino (its defaults): 2 crops of 40 to 100 % and 8 of 5 to 40 %, 224 and 96 pixels;
jitter of 0.4, 0.4, 0.2 and 0.1 for 80 %, grey for 20 %, blur for all first, a tenth of the second, half of the small
crops, a fifth of the second solarised; 65,536 prototypes; a head of 2048-2048-256; AdamW at 0.0005 for each 256 images
with a warm-up of 10 epochs to a cosine to 1e-6, gradients of norm 3 at most, prototypes frozen for the first epoch, a
momentum of 0.996 to 1. Recalled: the head, and a batch of 1024 for S/16.
Changed: weight decay is 0.04 all along, published is a cosine from 0.04 to 0.4; gradients are clipped as a whole,
published is each array.
"""

from ml_collections import ConfigDict

from facerep_jax import schedules
from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import augmentations, multi_crop
from facerep_jax.models import resnet, vit
from facerep_jax.objectives import dino
from facerep_jax.train import optim
from facerep_jax.train.recipe import recipe

EXAMPLES = ("encoder=resnet", "smoke")


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        encoder="vit",
        variant="",
        dataset="generated_faces/default",
        data_dir="data",
        size=224,
        small=96,
        batch=1024,
        epochs=100,
        prototypes=65_536,
        smoke=False,
    )
    if args.smoke:
        args.size, args.small, args.batch, args.prototypes = 48, 24, 16, 64
        args.dataset = "generated_faces:size=48,train=64,validation=0,test=0"
    epoch = max(1, 3_141_890 // args.batch)
    tiny = dict(channels=8, blocks=(1, 1, 1, 1)) if args.smoke else {}
    encoders = dict(
        resnet=spec(resnet.ResNet, variant=args.variant or "50", **tiny),
        vit=spec(
            vit.ViT,
            flavour="mae",
            variant=args.variant or ("Nano/8" if args.smoke else "S/16"),
            image_size=args.size,
            drop_path=0.1,
        ),
    )
    all_crops = (
        spec(multi_crop.Mirror),
        spec(multi_crop.ColourJitter, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1),
        spec(augmentations.Grey, probability=0.2),
    )
    crops = spec(
        multi_crop.MultiCrop,
        size=args.size,
        scale=(0.4, 1.0),
        small_size=args.small,
        small_count=8,
        small_scale=(0.05, 0.4),
        augmentations=(*all_crops, spec(multi_crop.GaussianBlur, probability=1.0)),
        second=(*all_crops, spec(multi_crop.GaussianBlur, probability=0.1), spec(multi_crop.Solarise)),
        of_small=(*all_crops, spec(multi_crop.GaussianBlur)),
    )
    sizes = dict(hidden=32, bottleneck=16) if args.smoke else {}
    return recipe(
        steps=2 if args.smoke else args.epochs * epoch,
        dataset=args.dataset,
        data_dir=args.data_dir,
        transforms=(crops,),
        batch_size=args.batch,
        encoder=pick("encoder", args.encoder, encoders),
        objective=spec(dino.DINO, prototypes=args.prototypes, **sizes),
        optimizer=spec(
            optim.adamw,
            learning_rate=0.0005 * args.batch / 256,
            schedule=spec(schedules.warmup_cosine, first=0.0, warmup_steps=0 if args.smoke else 10 * epoch),
            weight_decay=0.04,
            clip_norm=3.0,
            freeze=(("/prototypes$", 1 if args.smoke else epoch),),
        ),
        log_every=1 if args.smoke else 50,
    )
