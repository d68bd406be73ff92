"""MoCo v3 (2104.02057): contrast of two crops with those of the batch, by an encoder and a teacher that follows it.

facerep pretrain --config configs/pretrain/moco.py:dataset=manifest/faces --workdir runs/moco

Arguments: encoder: vit or resnet; `variant` of it, S/16 and 50 by default; `dataset` and its `data_dir`; `size` of the
crops in pixels; batch over all devices; epochs of 3,141,890 images; smoke: two steps of a tiny network on drawn faces.

Verified in facebookresearch/moco-v3 (main_moco.py, moco/builder.py and the README's command for ViT-S): two crops of 20
to 100 %, jitter of 0.4, 0.4, 0.2 and 0.1 for 80 %, grey for 20 %, the first crop blurred, of the second a tenth, and a
fifth of these solarised, mirrored; 4096 hidden units and 256 dimensions, all layers normalised, a projector of 3 layers
for ViTs and 2 for ResNets; a teacher's momentum from 0.99 to 1; for ViTs batch 1024, AdamW at 1e-4 for each 256 images,
weight decay 0.1, 40 of 300 epochs of warm-up, temperature 0.2; fixed positions; for ResNets temperature 1, a weight
decay of 1e-6 and a rate of 0.3 for each 256 images. Recalled: the patch embedding stays as it was drawn.
Changed: rates and the momentum change with each step, published per epoch (momentum) or in it; ResNets are trained by
`train.larc`, where MoCo has LARS. FRL (2103.16554) has MoCo v2's queue of 65,536 vectors in its code; the batch takes
its place here, as in MoCo v3.
"""

from ml_collections import ConfigDict

from facerep_jax import schedules
from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import augmentations, multi_crop
from facerep_jax.models import crops, resnet, vit
from facerep_jax.objectives import combined, momentum_contrast
from facerep_jax.train import larc, optim
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
        batch=1024,
        epochs=300,
        smoke=False,
    )
    if args.smoke:
        args.size, args.batch, args.dataset = 48, 16, "generated_faces:size=48,train=64,validation=0,test=0"
    epoch = max(1, 3_141_890 // args.batch)
    steps, warmup = (2, 0) if args.smoke else (args.epochs * epoch, 40 * epoch)
    tiny = dict(channels=8, blocks=(1, 1, 1, 1)) if args.smoke else {}
    encoders = dict(
        resnet=spec(resnet.ResNet, variant=args.variant or "50", zero_init=True, **tiny),
        vit=spec(
            vit.ViT,
            flavour="mae",
            positions="sincos_rows",
            variant=args.variant or ("Nano/8" if args.smoke else "S/16"),
            image_size=args.size,
        ),
    )
    optimizers = dict(
        resnet=spec(
            larc.larc,
            learning_rate=0.3 * args.batch / 256,
            schedule=spec(larc.warmup_cosine, first=0.0, last=0.0, warmup_steps=warmup // 4),
            weight_decay=1e-6,
        ),
        vit=spec(
            optim.adamw,
            learning_rate=1e-4 * args.batch / 256,
            schedule=spec(schedules.warmup_cosine, first=0.0, last=0.0, warmup_steps=warmup),
            weight_decay=0.1,
            freeze=(("^encoder/embed/", steps),),
        ),
    )
    both = (
        spec(multi_crop.ColourJitter, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1),
        spec(augmentations.Grey, probability=0.2),
    )
    two = spec(
        multi_crop.MultiCrop,
        size=args.size,
        small_count=0,
        scale=(0.2, 1.0),
        augmentations=(*both, spec(multi_crop.GaussianBlur, probability=1.0), spec(multi_crop.Mirror)),
        second=(
            *both,
            spec(multi_crop.GaussianBlur, probability=0.1),
            spec(multi_crop.Solarise),
            spec(multi_crop.Mirror),
        ),
    )
    contrast = spec(
        momentum_contrast.MomentumContrast,
        patches=spec(crops.Crop, index=1),
        symmetric=True,
        hidden=128 if args.smoke else 4096,
        width=32 if args.smoke else 256,
        projector_layers=3 if args.encoder == "vit" else 2,
        predictor_norm=True,
        temperature=0.2 if args.encoder == "vit" else 1.0,
        contrast_group=0,
        norm_rows=0,
        momentum=spec(schedules.cosine, first=0.99, last=1.0),
    )
    return recipe(
        steps=steps,
        dataset=args.dataset,
        data_dir=args.data_dir,
        transforms=(two,),
        batch_size=args.batch,
        encoder=pick("encoder", args.encoder, encoders),
        objective=spec(
            combined.Combined, terms=dict(momentum_contrast=contrast), views=dict(kept=spec(crops.Crop, index=0))
        ),
        optimizer=pick("encoder", args.encoder, optimizers),
        log_every=1 if args.smoke else 50,
    )
