"""BYOL (2006.07733), which FRL's code (2103.16554) has unfinished: a teacher's vectors are predicted.

facerep pretrain --config configs/pretrain/byol.py:dataset=manifest/faces --workdir runs/byol

Arguments: encoder: resnet or vit; `variant` of it, 50 and S/16 by default; `dataset` and its `data_dir`; `size` of the
crops in pixels; batch over all devices; epochs of 3,141,890 images; smoke: two steps of a tiny network on drawn
faces.

Recalled of the paper, not verified: crops of 8 to 100 %, jitter of 0.4, 0.4, 0.2 and 0.1 for 80 %, grey for 20 %, the
first crop blurred, of the second a tenth, and a fifth of these solarised; 4096 hidden units and 256 dimensions; a
teacher's momentum from 0.996 to 1; batch 4096, weight decay 1.5e-6, a warm-up of 10 epochs, then a cosine.
Changed: the optimizer is `train.larc`, with SwAV's rate, where the paper has LARS at 0.2 for each 256 images, without
biases and norms; steps of LARC at the published rate are a fifth as long as LARS's. Untuned.
"""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import augmentations, multi_crop
from facerep_jax.models import resnet, vit
from facerep_jax.objectives import byol
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
        batch=4096,
        epochs=300,
        smoke=False,
    )
    if args.smoke:
        args.size, args.batch, args.dataset = 48, 16, "generated_faces:size=48,train=64,validation=0,test=0"
    epoch = max(1, 3_141_890 // args.batch)
    rate = 0.3 * args.batch / 256
    tiny = dict(channels=8, blocks=(1, 1, 1, 1)) if args.smoke else {}
    encoders = dict(
        resnet=spec(resnet.ResNet, variant=args.variant or "50", **tiny),
        vit=spec(vit.ViT, variant=args.variant or ("Nano/8" if args.smoke else "S/16"), image_size=args.size),
    )
    both = (
        spec(multi_crop.Mirror),
        spec(multi_crop.ColourJitter, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1),
        spec(augmentations.Grey, probability=0.2),
    )
    crops = spec(
        multi_crop.MultiCrop,
        size=args.size,
        small_count=0,
        scale=(0.08, 1.0),
        augmentations=(*both, spec(multi_crop.GaussianBlur, probability=1.0)),
        second=(*both, spec(multi_crop.GaussianBlur, probability=0.1), spec(multi_crop.Solarise)),
    )
    return recipe(
        steps=2 if args.smoke else args.epochs * epoch,
        dataset=args.dataset,
        data_dir=args.data_dir,
        transforms=(crops,),
        batch_size=args.batch,
        encoder=pick("encoder", args.encoder, encoders),
        objective=spec(byol.BYOL, hidden=32 if args.smoke else 4096, width=16 if args.smoke else 256),
        optimizer=spec(
            larc.larc,
            learning_rate=rate,
            schedule=spec(larc.warmup_cosine, first=0.0, last=0.0, warmup_steps=0 if args.smoke else 10 * epoch),
            weight_decay=1.5e-6,
        ),
        log_every=1 if args.smoke else 50,
    )
