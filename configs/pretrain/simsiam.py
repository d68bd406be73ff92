"""SimSiam (2011.10566), which FRL's code (2103.16554) has as a choice: two crops, no negatives.

facerep pretrain --config configs/pretrain/simsiam.py:dataset=manifest/faces --workdir runs/simsiam

Arguments: encoder: resnet or vit; `variant` of it, 50 and S/16 by default; `dataset` and its `data_dir`; `size` of the
crops in pixels; batch over all devices; epochs of 3,141,890 images; smoke: two steps of a tiny network on drawn
faces.

Verified in facebookresearch/simsiam: crops of 20 to 100 %, jitter of 0.4, 0.4, 0.4 and 0.1 for 80 %, grey for 20 %,
blur for 50 %; projector and predictor 2048-512-2048; SGD with momentum 0.9 and weight decay 1e-4, rate 0.05 for each
256 images, a cosine to 0, the predictor's rate constant; batch 512, 100 epochs. Batch statistics of the whole batch.
"""

from ml_collections import ConfigDict

from facerep_jax import schedules
from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import augmentations, multi_crop
from facerep_jax.models import resnet, vit
from facerep_jax.objectives import simsiam
from facerep_jax.train import sgd
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
        batch=512,
        epochs=100,
        smoke=False,
    )
    if args.smoke:
        args.size, args.batch, args.dataset = 48, 16, "generated_faces:size=48,train=64,validation=0,test=0"
    tiny = dict(channels=8, blocks=(1, 1, 1, 1)) if args.smoke else {}
    encoders = dict(
        resnet=spec(resnet.ResNet, variant=args.variant or "50", zero_init=True, **tiny),
        vit=spec(vit.ViT, variant=args.variant or ("Nano/8" if args.smoke else "S/16"), image_size=args.size),
    )
    looks = (
        spec(multi_crop.ColourJitter, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
        spec(augmentations.Grey, probability=0.2),
        spec(multi_crop.GaussianBlur),
        spec(multi_crop.Mirror),
    )
    crops = spec(multi_crop.MultiCrop, size=args.size, small_count=0, scale=(0.2, 1.0), augmentations=looks)
    return recipe(
        steps=2 if args.smoke else args.epochs * max(1, 3_141_890 // args.batch),
        dataset=args.dataset,
        data_dir=args.data_dir,
        transforms=(crops,),
        batch_size=args.batch,
        encoder=pick("encoder", args.encoder, encoders),
        objective=spec(simsiam.SimSiam, hidden=32 if args.smoke else 2048, bottleneck=16 if args.smoke else 512),
        optimizer=spec(
            sgd.sgd,
            learning_rate=0.05 * args.batch / 256,
            schedule=spec(schedules.cosine, last=0.0),
            weight_decay=1e-4,
            steady="/predictor/",
        ),
        log_every=1 if args.smoke else 50,
    )
