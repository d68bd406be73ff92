"""SwAV on four devices: a batch of 256 whose codes are found together with a queue of past vectors (2006.09882).

facerep pretrain --config configs/pretrain/swav_queue.py:dataset=manifest/faces --workdir runs/swav_queue

Arguments:
  encoder: resnet or vit; `variant` of it, 50 and S/16 by default; `dataset` and its `data_dir`; `size` of the large
  crops in pixels, and `small` of the small ones; batch over all devices; images of an epoch; epochs; prototypes;
  queue: vectors that are kept; smoke: two steps of a tiny network on faces drawn as they are read.

Source: facebookresearch/swav, swav_200ep_bs256_pretrain.sh, verified: 3840 vectors from epoch 15 on, rate 0.6 without a
warm-up to 0.0006, prototypes frozen for 5005 steps, an epoch of ImageNet; statistics of the whole batch. FRL names no
such recipe. The rate is twice what the rule of configs/pretrain/swav.py gives.
Changed: an epoch is of `images`; the prototypes are frozen for one, at most 5005 steps. If the loss jumps up when the
queue begins, shorten the queue or delay it (`--config.objective.queue_steps`).
"""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import augmentations, multi_crop
from facerep_jax.models import resnet, vit
from facerep_jax.objectives import swav
from facerep_jax.train import larc
from facerep_jax.train.recipe import recipe

EXAMPLES = ("encoder=vit", "smoke")


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
        batch=256,
        images=3_141_890,
        epochs=200,
        prototypes=3000,
        queue=3840,
        smoke=False,
    )
    if args.smoke:
        args.variant, args.size, args.small, args.batch, args.prototypes, args.queue = "", 48, 24, 16, 24, 16
        args.dataset, args.images = "generated_faces:size=48,train=64,validation=0,test=0", 16
    epoch = max(1, args.images // args.batch)
    rate = 0.6 * args.batch / 256
    tiny = dict(channels=8, blocks=(1, 1, 1, 1)) if args.smoke else {}
    encoders = dict(
        resnet=spec(resnet.ResNet, variant=args.variant or "50", std=(0.228, 0.224, 0.225), **tiny),
        vit=spec(vit.ViT, variant=args.variant or ("Nano/8" if args.smoke else "S/16"), image_size=args.size),
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
            queue=args.queue,
            queue_steps=0 if args.smoke else 15 * epoch,
        ),
        optimizer=spec(
            larc.larc,
            learning_rate=rate,
            schedule=spec(larc.warmup_cosine, first=rate, last=rate / 1000),
            freeze=(("prototypes$", min(epoch, 5005)),),
        ),
        log_every=1 if args.smoke else 50,
    )
