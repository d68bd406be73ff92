"""MCF and MAE small enough to learn something in minutes on two cores, for configs/study/mcf.py.

facerep pretrain --config configs/pretrain/mcf_nano.py:objective=mae,dataset=manifest/faces --workdir runs/mae

Then `configs/pretrain/mcf_nano.py:m1=runs/mae` is MCF, whose frozen network is this encoder.

Arguments: dataset and data_dir; crop (box: the face's box and a margin; whole: the whole image); steps; the size of the
images in pixels; objective (mcf; features or contrast, one of its losses alone; mae); m1 of mcf and features: the
workdir of such a run, or `random`; masks (random; regions, of which one part of the face is hidden wholly); pair: what
the teacher sees (independent, complementary, shared, whole); flip: images are mirrored; stem: hidden units of the patch
embedding, of M1 too, 0 for the published linear one.
Changed against configs/pretrain/mcf.py and mae.py: everything is small, and laid out for CPUs (`unroll`, `remat`);
encoder, crop, batch and optimizer are those of configs/pretrain/farl_nano.py, except for MAE's flavour of the encoder,
so that studies can compare all of them. All 64 images of a batch contrast and share statistics; the teacher's momentum
is 0.99. M1 has four blocks, all of which are compared. The decoder has two blocks of width 64.
"""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import region_mask, transforms
from facerep_jax.models import decoder, views, vit
from facerep_jax.objectives import combined, masked_features, masked_pixels, momentum_contrast
from facerep_jax.train.recipe import nano

EXAMPLES = (
    *("m1=random", "objective=mae", "objective=mae,masks=regions,flip", "objective=contrast,pair=whole"),
    *("objective=features,m1=random,stem=0", "crop=whole", "masks=regions"),
)
PATCH = 8
SHARE = 0.25  # of the patches that an encoder sees


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
        objective="mcf",
        m1="",
        masks="random",
        pair="independent",
        flip=False,
    )
    grid = args.size // PATCH
    crops = dict(
        box=spec(transforms.CropToBox, size=args.size, margin=0.25, shift=0.08, zoom=0.15),
        whole=spec(transforms.RandomResizedCrop, size=args.size, scale=(0.7, 1.0)),
    )
    flip = (spec(transforms.Flip, captions=()),) if args.flip else ()
    masks = dict(random=(), regions=(spec(region_mask.RegionMask, grid=grid, share=SHARE),))
    kept = dict(random=spec(views.RandomPatches, share=SHARE), regions=spec(views.UnmaskedPatches, share=SHARE))
    encoder = spec(
        vit.ViT, flavour="mae", variant=f"Nano/{PATCH}", stem=args.stem or None, image_size=args.size, unroll=4
    )
    small = spec(decoder.Decoder, width=64, depth=2, heads=2)
    features = spec(masked_features.MaskedFeatures, network=encoder, weights=args.m1, taps=(0, 1, 2, 3), decoder=small)
    contrast = spec(
        momentum_contrast.MomentumContrast,
        pair=args.pair,
        patches=spec(views.RandomPatches, share=SHARE),
        hidden=256,
        width=64,
        contrast_group=0,
        norm_rows=0,
    )
    weight = 1000.0 * (1 + grid**2) / 197
    objectives = dict(
        mcf=dict(
            terms=dict(masked_features=features, momentum_contrast=contrast),
            weights=dict(masked_features=weight, momentum_contrast=1.0),
        ),
        features=dict(terms=dict(masked_features=features), weights=dict(masked_features=weight)),
        contrast=dict(terms=dict(momentum_contrast=contrast), weights=dict(momentum_contrast=1.0)),
        mae=dict(
            terms=dict(masked_pixels=spec(masked_pixels.MaskedPixels, decoder=small)), weights=dict(masked_pixels=1.0)
        ),
    )
    return nano(
        steps=args.steps,
        dataset=args.dataset,
        data_dir=args.data_dir,
        transforms=(pick("crop", args.crop, crops), *flip, *pick("masks", args.masks, masks)),
        encoder=encoder,
        objective=spec(
            combined.Combined, views=dict(kept=kept[args.masks]), **pick("objective", args.objective, objectives)
        ),
    )
