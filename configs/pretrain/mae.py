"""MAE (2111.06377) on images of faces: MCF's baseline, and a network M1 for MCF where none is at hand.

facerep pretrain --config configs/pretrain/mae.py:dataset=manifest/faces --workdir runs/mae

`configs/pretrain/mcf.py:m1=runs/mae` compares images by this encoder; `--config.init=runs/mae` starts from it.

Arguments:
  variant of the encoder; `size` of the images in pixels; `dataset` and its `data_dir`;
  crop: whole, of the image 20 % to all of it; box, the face's box and a margin;
  masks: random; or regions, of which one part of the face is hidden wholly (FSFM's CRFR-P, 2412.12032), for data sets
    with masks of classes;
  smoke: two steps of a tiny model on faces drawn as they are read.

What each value rests on:
  verified in the published code (facebookresearch/mae): encoder, decoder of 8 blocks of width 512 with 16 heads,
    normalised pixels of the 75 % of the patches that are masked; random crops of 20 to 100 %, mirrored with probability
    1/2; AdamW with betas (0.9, 0.95) and weight decay 0.05 of all that is no vector, batch 4096, learning rate 1.5e-4 *
    4096 / 256, warm-up of 40 of 800 epochs, then half a cosine to 0; no clipping of gradients, no average of weights;
  ours: the data, and as many images as MCF's 16 epochs of 20 million see, in place of ImageNet's 800 epochs.
"""

from ml_collections import ConfigDict

from facerep_jax import schedules
from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import region_mask, transforms
from facerep_jax.models import decoder, views, vit
from facerep_jax.objectives import combined, masked_pixels
from facerep_jax.train import optim
from facerep_jax.train.recipe import recipe

EXAMPLES = ("crop=box", "masks=regions", "variant=L/16", "smoke", "smoke,masks=regions", "variant=S/16,size=112")
SHARE = 0.25  # of the patches that the encoder sees


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        variant="B/16",
        size=224,
        dataset="generated_faces/default",
        data_dir="data",
        crop="whole",
        masks="random",
        smoke=False,
    )
    if args.smoke:
        args.variant, args.size = "Nano/8", 48
        args.dataset = "generated_faces:size=48,train=64,validation=0,test=0"
    crops = dict(
        whole=spec(transforms.RandomResizedCrop, size=args.size, scale=(0.2, 1.0)),
        box=spec(transforms.CropToBox, size=args.size, margin=0.25, shift=0.08, zoom=0.15),
    )
    grid = args.size // vit.sizes_of(args.variant).patch
    masks = dict(random=(), regions=(spec(region_mask.RegionMask, grid=grid, share=SHARE),))
    kept = dict(random=spec(views.RandomPatches, share=SHARE), regions=spec(views.UnmaskedPatches, share=SHARE))
    sizes = dict(width=64, depth=1, heads=2) if args.smoke else dict(width=512, depth=8, heads=16)
    return recipe(
        steps=2 if args.smoke else 16 * (20_000_000 // 4096),
        dataset=args.dataset,
        data_dir=args.data_dir,
        transforms=(
            pick("crop", args.crop, crops),
            spec(transforms.Flip, captions=()),
            *pick("masks", args.masks, masks),
        ),
        batch_size=16 if args.smoke else 4096,
        encoder=spec(vit.ViT, flavour="mae", variant=args.variant, image_size=args.size),
        objective=spec(
            combined.Combined,
            views=dict(kept=kept[args.masks]),
            terms=dict(masked_pixels=spec(masked_pixels.MaskedPixels, decoder=spec(decoder.Decoder, **sizes))),
            weights=dict(masked_pixels=1.0),
        ),
        optimizer=spec(
            optim.adamw,
            learning_rate=1.5e-4 * 4096 / 256,
            schedule=spec(schedules.warmup_cosine, first=0.0, last=0.0, warmup_share=40 / 800),
            b2=0.95,
            weight_decay=0.05,
            decayed="(kernel|class_token|mask_token)$",
        ),
        log_every=1 if args.smoke else 50,
    )
