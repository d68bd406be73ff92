"""FaRL small enough to learn something in minutes on two cores; `facerep demo` pre-trains by it.

facerep pretrain --config configs/pretrain/farl_nano.py:dataset=manifest/faces --workdir runs/nano

Arguments: dataset and data_dir, crop (box: the face's box and a margin; whole: the whole image), steps, and the size of
the images in pixels.
Changed against configs/pretrain/farl.py: everything is small; the number of steps is what counts at this scale.
"""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import transforms
from facerep_jax.models import text, tokenizer, vit
from facerep_jax.objectives import combined, contrastive, masked_tokens
from facerep_jax.train import optim

PATCH = 8
BUCKETS = 2048  # of the vocabulary of captions


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is what follows the colon."""
    args = parse_arg(arg, dataset="generated_faces/demo", data_dir="data", crop="box", steps=1200, size=48)
    grid = args.size // PATCH
    crops = dict(
        box=spec(transforms.CropToBox, size=args.size, margin=0.25, shift=0.08, zoom=0.15),
        whole=spec(transforms.RandomResizedCrop, size=args.size, scale=(0.7, 1.0)),
    )

    config = ConfigDict()
    config.seed = 0
    config.steps = args.steps
    config.log_every = 20
    config.checkpoint_every = 0
    config.checkpoint_minutes = 5.0
    config.dtype = "auto"
    config.remat = "dots_with_no_batch_dims_saveable"
    config.ema = 0.0
    config.data = dict(
        dataset=args.dataset,
        data_dir=args.data_dir,
        split="train",
        batch_size=64,
        transforms=(
            pick("crop", args.crop, crops),
            spec(transforms.Tokenize, length=32, buckets=BUCKETS),
            spec(transforms.BlockMask, grid=grid, count=round(0.4 * grid**2), min_block=2),
        ),
    )
    config.encoder = spec(vit.ViT, variant=f"Nano/{PATCH}", image_size=args.size)
    config.objective = spec(
        combined.Combined,
        terms=dict(
            contrastive=spec(
                contrastive.Contrastive,
                text_encoder=spec(text.TextTransformer, vocabulary=BUCKETS, context=32, width=64, depth=2, heads=2),
                embedding=64,
            ),
            masked_tokens=spec(
                masked_tokens.MaskedTokens,
                tokenizer=spec(tokenizer.KMeansTokenizer, patch=PATCH, codes=128),
                count=round(0.4 * grid**2),
                heads=3,
            ),
        ),
        weights=dict(contrastive=1.0, masked_tokens=1.0),
    )
    config.optimizer = spec(optim.adamw, learning_rate=2e-3, warmup_steps=60, b2=0.98, weight_decay=0.05, clip_norm=1.0)
    config.mesh = dict(replica=1, fsdp=-1, model=1)
    config.sharding = "replicated"
    config.operational = dict(threads=4, workers=0, keep_checkpoints=3)
    return config
