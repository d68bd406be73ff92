"""FaRL (2112.03109): image-text contrast and masked tokens through one encoder, on image-text pairs of faces.

facerep pretrain --config configs/pretrain/farl.py:variant=B/16,dataset=manifest/faces --workdir runs/farl

Arguments:
  variant of the encoder; `size` of the images in pixels; `dataset` and its `data_dir`;
  objective: itc+mim, which is the paper's; itc, the contrast alone; mim, the masked tokens alone, which is ours;
  mim_depth: blocks behind the encoder that predict the tokens;
  tokenizer: kmeans, fitted on the training images; dvae, the published one of DALL-E; dvae_small, that of
    configs/pretrain/dvae.py; the latter two need `weights`: a safetensors file or that run's workdir;
  align: faces are moved to a template of five points, by landmarks that the data set must have;
  flip: images are mirrored, each with probability 1/2, unless a caption speaks of sides;
  loss: gather, or ring, which needs less memory on many devices and comes to the same; sigmoid: SigLIP's loss, which is
    ours; micro_batches: that the batch is looked at in, for less memory and the same result;
  smoke: two steps of a tiny model on faces drawn as they are read.

What each value rests on:
  verified in the published code: the encoder, its normalisation and 224 pixels; CLIP's text tower, 77 tokens and 512
    dimensions of the common space; one encoder for the clean and the masked copy of one crop; the mask token before
    positions; the blocks, norm and linear layer behind; 16 epochs of 20 million images; BEiT's block-wise masks with at
    least 16 patches a block, and DALL-E's dVAE with 8192 codes at 8 pixels a patch, both as BEiT has them;
  inferred: one block behind the encoder, of the size of the released weights; 8192 codes, of the shape of their head;
  recalled, not verified: from scratch, batch 5120, AdamW with betas (0.9, 0.98) and weight decay 0.05, learning rate
    1e-6 to 1.5e-3 in one epoch, then a cosine to 1e-6; temperature 0.07 at first; at most 75 of 196 patches masked;
    the dVAE as tokenizer; equal weights; with low confidence, the ablation's rows ITC, ITC+ALIGN, ITC+MIM_1, ITC+MIM_6,
    where FaRL is ITC+MIM_1+ALIGN: `objective=itc`, `objective=itc,align`, `mim_depth=1`, `mim_depth=6`, `align`;
  unknown, so ours: the crop of 90 to 100 % of the image; what ALIGN is, here a similarity to the template of the
    authors' downstream code, which takes that crop's place, so that rows with and without it differ in both; no flips
    unless asked for; the temperature's bound of 1/100, as CLIP has it; which parameters decay (see `optim.adamw`), no
    clipping of gradients, no drop-path, no average of weights; masks of the same share on other grids.
Changed: the tokenizer is k-means unless another is asked for, since the dVAE's weights are not ours to ship; faces are
as the data set has them unless `align` is given, since that needs landmarks.
"""

from ml_collections import ConfigDict

from facerep_jax import schedules
from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import alignment, transforms
from facerep_jax.models import text, tokenizer, vit
from facerep_jax.objectives import combined, contrastive, masked_tokens
from facerep_jax.train import optim
from facerep_jax.train.recipe import recipe

EXAMPLES = (
    *("objective=itc", "objective=mim", "mim_depth=6", "objective=itc,align", "align", "flip", "variant=H/14", "smoke"),
    *("tokenizer=dvae,weights=x", "tokenizer=dvae_small,weights=x,objective=mim", "smoke,tokenizer=dvae,weights=x"),
    "variant=S/16,size=112",
    *("smoke,loss=ring,micro_batches=2", "smoke,sigmoid,objective=itc", "loss=ring,micro_batches=4"),
)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        variant="B/16",
        size=224,
        dataset="generated_faces/default",
        data_dir="data",
        objective="itc+mim",
        mim_depth=1,
        tokenizer="kmeans",
        weights="",
        align=False,
        flip=False,
        loss="gather",
        sigmoid=False,
        micro_batches=1,
        smoke=False,
    )
    if args.weights and args.tokenizer == "kmeans":
        raise ValueError("k-means is fitted and takes no weights; add tokenizer=dvae or tokenizer=dvae_small")
    if args.smoke:
        args.variant, args.size = "Nano/8", 48
        args.dataset = "generated_faces:size=48,train=64,validation=0,test=0"
    size, patch = args.size, vit.sizes_of(args.variant).patch
    grid = size // patch
    count = round(75 / 196 * grid**2)
    epoch = 20_000_000 // 5120
    text_size = dict(width=32, depth=1, heads=2) if args.smoke else dict(width=512, depth=12, heads=8)

    crop = spec(transforms.RandomResizedCrop, size=size, scale=(0.9, 1.0))
    if args.align:
        crop = spec(alignment.AlignToTemplate, size=size)
    flip = (spec(transforms.Flip, probability=0.5),) if args.flip else ()
    tokenize = spec(transforms.Tokenize, length=77)
    block_mask = spec(transforms.BlockMask, grid=grid, count=count, min_block=max(1, round(16 / 196 * grid**2)))

    tokenizers = dict(
        kmeans=spec(
            tokenizer.KMeansTokenizer, patch=patch, codes=64 if args.smoke else 8192, cells=2 if patch % 4 else 4
        ),
        dvae=spec(tokenizer.DVAE, patch=patch, variant="Nano" if args.smoke else "DALL-E", weights=args.weights),
        dvae_small=spec(tokenizer.DVAE, patch=patch, variant="Nano" if args.smoke else "S", weights=args.weights),
    )
    itc = spec(
        contrastive.Contrastive,
        text_encoder=spec(text.TextTransformer, **text_size),
        embedding=512,
        temperature=0.1 if args.sigmoid else 0.07,
        loss=args.loss,
        sigmoid=args.sigmoid,
    )
    mim = spec(
        masked_tokens.MaskedTokens,
        tokenizer=pick("tokenizer", args.tokenizer, tokenizers),
        count=count,
        depth=args.mim_depth,
        heads=vit.sizes_of(args.variant).heads,
    )
    objectives = {
        "itc+mim": dict(
            terms=dict(contrastive=itc, masked_tokens=mim), weights=dict(contrastive=1.0, masked_tokens=1.0)
        ),
        "itc": dict(terms=dict(contrastive=itc), weights=dict(contrastive=1.0)),
        "mim": dict(terms=dict(masked_tokens=mim), weights=dict(masked_tokens=1.0)),
    }
    inputs = {"itc+mim": (tokenize, block_mask), "itc": (tokenize,), "mim": (block_mask,)}

    return recipe(
        steps=2 if args.smoke else 16 * epoch,
        dataset=args.dataset,
        data_dir=args.data_dir,
        transforms=(crop, *flip, *pick("objective", args.objective, inputs)),
        batch_size=16 if args.smoke else 5120,
        micro_batches=args.micro_batches,
        encoder=spec(vit.ViT, variant=args.variant, image_size=size),
        objective=spec(combined.Combined, **objectives[args.objective]),
        optimizer=spec(
            optim.adamw,
            learning_rate=1.5e-3,
            schedule=spec(schedules.warmup_cosine, first=1e-6, last=1e-6, warmup_share=1 / 16),
            b1=0.9,
            b2=0.98,
            weight_decay=0.05,
        ),
        log_every=1 if args.smoke else 50,
    )
