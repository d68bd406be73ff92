"""MCF (2309.03575): masked features through a frozen network, and a contrast between two masks of one image.

facerep pretrain --config configs/pretrain/mcf.py:dataset=manifest/faces,m1=runs/mae --workdir runs/mcf

Arguments:
  m1: the frozen network, WORKDIR[@STEP] of a pre-training, such as one of configs/pretrain/mae.py, or FILE[@LAYOUT] of
    published weights; `random` is a control; m1_variant: its size and patch, such as B/16; m1_positions: sincos, which
    are MAE's, or sincos_rows, which MoCo v3's published networks have, such as the paper's;
  variant of the encoder; `size` of the images in pixels; `dataset` and its `data_dir`;
  objective: mcf, which is the paper's; features or contrast, one of its two losses alone;
  crop: whole, the image as it is; box, the face's box and a margin, where images are more than a face;
  masks: random; or regions, of which one part of the face is hidden wholly (FSFM's CRFR-P, 2412.12032), for data sets
    with masks of classes; this is not the paper's;
  pair: what the teacher sees: independent, patches of its own; complementary; shared; or the whole image, as in FSFM;
  decoder_depth: blocks of the decoder;
  smoke: two steps of a tiny model on faces drawn as they are read, with a random network M1 unless one is given.

The encoder may start from MAE's: --config.init=runs/mae.

What each value rests on, see also docs/mcf.md:
  verified in the released code (nomewang/MCF, which cannot run as it is) and its README: the encoder, which is MAE's,
    with 25 % of the patches; decoder of 8 blocks of width 512 with 16 heads; blocks 2, 5, 8 and 11 of M1, features
    scaled over the tokens, weight 1000; projector and predictor of 4096 and 256; temperature 0.2; independent masks;
    512 images that contrast, 64 that share statistics; momentum 0.99 of each of 8 micro-steps, which is 0.99**8 of an
    update; batch 4096, 16 epochs, warm-up of one, learning rate 1.5e-4 * 4096 / 256, half a cosine to 0; AdamW with
    betas (0.9, 0.95), weight decay 0.05 of all that is no vector; no clipping of gradients; images mirrored with
    probability 1/2 and not cropped;
  inferred: M1 is the published MoCo v3 ViT-B/16; images are square crops of faces;
  ours: the weight of the features is scaled by the number of tokens where that is not 197, which keeps their part in
    the sum; images are resized by a bicubic filter; the crop of `crop=box`.
"""

from ml_collections import ConfigDict

from facerep_jax import schedules
from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import region_mask, transforms
from facerep_jax.models import decoder, views, vit
from facerep_jax.objectives import combined, masked_features, momentum_contrast
from facerep_jax.train import optim
from facerep_jax.train.recipe import recipe

EXAMPLES = (
    *("objective=features", "objective=contrast", "crop=box", "masks=regions", "pair=whole", "pair=complementary"),
    *("decoder_depth=1", "variant=L/16", "variant=S/8,size=112,m1_variant=S/8", "m1_positions=sincos_rows", "smoke"),
    *("smoke,masks=regions", "smoke,m1=x", "smoke,objective=contrast,pair=shared"),
)
SHARE = 0.25  # of the patches that an encoder sees


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        m1="",
        m1_variant="B/16",
        m1_positions="sincos",
        variant="B/16",
        size=224,
        dataset="generated_faces/default",
        data_dir="data",
        objective="mcf",
        crop="whole",
        masks="random",
        pair="independent",
        decoder_depth=8,
        smoke=False,
    )
    if args.smoke:
        args.variant, args.m1_variant, args.size, args.decoder_depth = "Nano/8", "Nano/8", 48, 1
        args.m1 = args.m1 or "random"
        args.dataset = "generated_faces:size=48,train=64,validation=0,test=0"
    crops = dict(
        whole=spec(transforms.Resize, size=args.size),
        box=spec(transforms.CropToBox, size=args.size, margin=0.25),
    )
    grid = args.size // vit.sizes_of(args.variant).patch
    masks = dict(random=(), regions=(spec(region_mask.RegionMask, grid=grid, share=SHARE),))
    kept = dict(random=spec(views.RandomPatches, share=SHARE), regions=spec(views.UnmaskedPatches, share=SHARE))
    depth = vit.sizes_of(args.m1_variant).depth
    sizes = dict(width=64, heads=2) if args.smoke else dict(width=512, heads=16)
    features = spec(
        masked_features.MaskedFeatures,
        network=spec(
            vit.ViT, flavour="mae", variant=args.m1_variant, positions=args.m1_positions, image_size=args.size
        ),
        weights=args.m1,
        taps=tuple(depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)),
        decoder=spec(decoder.Decoder, depth=args.decoder_depth, **sizes),
    )
    contrast = spec(
        momentum_contrast.MomentumContrast,
        pair=args.pair,
        patches=spec(views.RandomPatches, share=SHARE),
        hidden=128 if args.smoke else 4096,
        width=32 if args.smoke else 256,
        contrast_group=8 if args.smoke else 512,
        norm_rows=4 if args.smoke else 64,
        momentum=spec(schedules.constant, value=0.99**8),
    )
    weight = 1000.0 * (1 + grid**2) / 197
    objectives = dict(
        mcf=dict(
            terms=dict(masked_features=features, momentum_contrast=contrast),
            weights=dict(masked_features=weight, momentum_contrast=1.0),
        ),
        features=dict(terms=dict(masked_features=features), weights=dict(masked_features=weight)),
        contrast=dict(terms=dict(momentum_contrast=contrast), weights=dict(momentum_contrast=1.0)),
    )
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
            combined.Combined, views=dict(kept=kept[args.masks]), **pick("objective", args.objective, objectives)
        ),
        optimizer=spec(
            optim.adamw,
            learning_rate=1.5e-4 * 4096 / 256,
            schedule=spec(schedules.warmup_cosine, first=0.0, last=0.0, warmup_share=1 / 16),
            b2=0.95,
            weight_decay=0.05,
            decayed="(kernel|class_token|mask_token)$",
        ),
        log_every=1 if args.smoke else 50,
    )
