"""FaRL small enough to learn something in minutes on two cores; `facerep demo` pre-trains by it.

facerep pretrain --config configs/pretrain/farl_nano.py:dataset=manifest/faces --workdir runs/nano

Arguments: dataset and data_dir; crop (box: the face's box and a margin; whole: the whole image; align: the face by five
points of its landmarks); steps; the size of the images in pixels; objective (itc+mim; itc: the contrast alone; mim: the
masked tokens alone); captions, the feature that is read (caption or oracle_caption); flip: images are mirrored unless a
caption speaks of sides; stem: hidden units of the patch embedding, 0 for the published linear one.
Changed against configs/pretrain/farl.py: everything is small, and laid out for CPUs (`unroll`, `remat`), for the number
of steps is what counts at this scale. Patches are embedded by a layer of ReLUs behind a normalisation of their
contrast, see `models.stems`: for landmarks that is worth as much as the pre-training, for parsing nothing (RESULTS.md).
That layer stays as it was drawn for the first fifth of the steps, which was better on validation faces than to train it
from the first. The text tower reads 32 tokens, which cuts 5.5 % of the oracle captions short.
"""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import alignment, transforms
from facerep_jax.models import text, tokenizer, vit
from facerep_jax.objectives import combined, contrastive, masked_tokens
from facerep_jax.train.recipe import nano

EXAMPLES = ("stem=0", "objective=itc", "objective=mim", "crop=align", "crop=whole,flip", "captions=oracle_caption")
PATCH = 8
BUCKETS = 2048  # of the vocabulary of captions


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
        objective="itc+mim",
        captions="caption",
        flip=False,
    )
    grid = args.size // PATCH
    count = round(0.4 * grid**2)
    crops = dict(
        box=spec(transforms.CropToBox, size=args.size, margin=0.25, shift=0.08, zoom=0.15),
        whole=spec(transforms.RandomResizedCrop, size=args.size, scale=(0.7, 1.0)),
        align=spec(alignment.AlignToTemplate, size=args.size),
    )
    flip = (spec(transforms.Flip, captions=(args.captions,)),) if args.flip else ()
    tokenize = spec(transforms.Tokenize, length=32, buckets=BUCKETS, feature=args.captions)
    block_mask = spec(transforms.BlockMask, grid=grid, count=count, min_block=2)
    itc = spec(
        contrastive.Contrastive,
        text_encoder=spec(text.TextTransformer, vocabulary=BUCKETS, context=32, width=64, depth=2, heads=2, unroll=2),
        embedding=64,
    )
    mim = spec(
        masked_tokens.MaskedTokens,
        tokenizer=spec(tokenizer.KMeansTokenizer, patch=PATCH, codes=128),
        count=count,
        heads=3,
    )
    objectives = {
        "itc+mim": dict(
            terms=dict(contrastive=itc, masked_tokens=mim), weights=dict(contrastive=1.0, masked_tokens=1.0)
        ),
        "itc": dict(terms=dict(contrastive=itc), weights=dict(contrastive=1.0)),
        "mim": dict(terms=dict(masked_tokens=mim), weights=dict(masked_tokens=1.0)),
    }
    inputs = {"itc+mim": (tokenize, block_mask), "itc": (tokenize,), "mim": (block_mask,)}

    return nano(
        steps=args.steps,
        dataset=args.dataset,
        data_dir=args.data_dir,
        transforms=(pick("crop", args.crop, crops), *flip, *pick("objective", args.objective, inputs)),
        encoder=spec(vit.ViT, variant=f"Nano/{PATCH}", stem=args.stem or None, image_size=args.size, unroll=4),
        objective=spec(combined.Combined, **objectives[args.objective]),
    )
