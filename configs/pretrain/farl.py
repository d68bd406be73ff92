"""FaRL (2112.03109): image-text contrast and masked tokens through one encoder, on image-text pairs of faces.

facerep pretrain --config configs/pretrain/farl.py:variant=B/16,dataset=manifest/faces --workdir runs/farl

Arguments: variant of the encoder, `dataset` and its `data_dir`, `smoke` (two steps of a tiny model
on faces drawn as they are read).

Verified in the published code: encoder, text tower, masked branch and its depth, block-wise masks of BEiT, 16 epochs of
20 million images. Recalled, not verified: batch 5120, AdamW with betas (0.9, 0.98), weight decay 0.05, learning rate
1.5e-3 after one epoch of warm-up then a cosine to 1e-6, at most 75 of 196 patches masked, equal weights.
Changed: the tokenizer is k-means over patches, fitted on the training images, in place of DALL-E's dVAE.
"""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, spec
from facerep_jax.data import transforms
from facerep_jax.models import text, tokenizer, vit
from facerep_jax.objectives import combined, contrastive, masked_tokens
from facerep_jax.train import optim


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is what follows the colon."""
    args = parse_arg(arg, variant="B/16", dataset="generated_faces/default", data_dir="data", smoke=False)
    if args.smoke:
        args.variant, args.dataset = "Nano/8", "generated_faces:size=48,train=64,validation=0,test=0"
    size, patch = (48 if args.smoke else 224), vit.sizes_of(args.variant).patch
    grid = size // patch
    count = round(75 / 196 * grid**2)
    epoch = 20_000_000 // 5120

    config = ConfigDict()
    config.seed = 0
    config.steps = 2 if args.smoke else 16 * epoch
    config.log_every = 1 if args.smoke else 50
    config.checkpoint_every = 0
    config.checkpoint_minutes = 30.0
    config.dtype = "auto"
    config.remat = "dots_with_no_batch_dims_saveable"
    config.ema = 0.0
    config.data = dict(
        dataset=args.dataset,
        data_dir=args.data_dir,
        split="train",
        batch_size=16 if args.smoke else 5120,
        transforms=(
            spec(transforms.RandomResizedCrop, size=size, scale=(0.9, 1.0)),
            spec(transforms.Tokenize, length=77),
            spec(transforms.BlockMask, grid=grid, count=count, min_block=max(1, round(16 / 196 * grid**2))),
        ),
    )
    config.encoder = spec(vit.ViT, variant=args.variant, image_size=size)
    text_size = dict(width=32, depth=1, heads=2) if args.smoke else dict(width=512, depth=12, heads=8)
    codes = 64 if args.smoke else 8192
    config.objective = spec(
        combined.Combined,
        terms=dict(
            contrastive=spec(
                contrastive.Contrastive, text_encoder=spec(text.TextTransformer, **text_size), embedding=512
            ),
            masked_tokens=spec(
                masked_tokens.MaskedTokens,
                tokenizer=spec(tokenizer.KMeansTokenizer, patch=patch, codes=codes),
                count=count,
                heads=vit.sizes_of(args.variant).heads,
            ),
        ),
        weights=dict(contrastive=1.0, masked_tokens=1.0),
    )
    config.optimizer = spec(optim.adamw, learning_rate=1.5e-3, warmup_steps=epoch, b2=0.98, weight_decay=0.05)
    config.mesh = dict(replica=1, fsdp=-1, model=1)
    config.sharding = "replicated"
    config.operational = dict(threads=8, workers=0, keep_checkpoints=3)
    return config
