"""A dVAE (DALL-E, 2102.12092) on faces: the tokenizer of masked image modelling, for want of the published weights.

facerep pretrain --config configs/pretrain/dvae.py:dataset=manifest/faces --workdir runs/dvae

Then `configs/pretrain/farl.py:tokenizer=dvae_small,weights=runs/dvae` predicts its codes.

Arguments:
  variant of the dVAE; `dataset` and its `data_dir`; `steps`;
  crop: whole, most of the image, or box, the face's box and a margin;
  size of the images in pixels: eight for each patch of the encoder that will predict the codes;
  smoke: two steps of a tiny model on faces drawn as they are read.

Verified in the published code: encoder, decoder, map of pixels. Recalled, not verified: logit-Laplace likelihood,
temperature 1 to 1/16, weight of the divergence 0 to 6.6, AdamW with betas (0.9, 0.999) and weight decay 1e-4.
Changed: the variant S is a quarter as wide as the published one and has a quarter of its codes. Steps, batch and
learning rate are ours, for small sets and few devices. Recalled of the paper: 3,000,000 updates, batch 512, learning
rate 1e-4 to 1.25e-6, temperature annealed in 150,000 updates, divergence in 5,000, an average of decay 0.999.
"""

from ml_collections import ConfigDict

from facerep_jax import schedules
from facerep_jax.config import parse_arg, pick, spec
from facerep_jax.data import transforms
from facerep_jax.models import dvae
from facerep_jax.objectives import dvae as objective
from facerep_jax.train import optim
from facerep_jax.train.recipe import recipe

EXAMPLES = ("variant=DALL-E", "crop=box", "smoke")


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        variant="S",
        dataset="manifest/faces",
        data_dir="data",
        crop="whole",
        steps=20_000,
        size=112,
        smoke=False,
    )
    if args.smoke:
        args.variant, args.dataset = "Nano", "generated_faces:size=48,train=64,validation=0,test=0"
        args.steps, args.size = 2, 48
    crops = dict(
        whole=spec(transforms.RandomResizedCrop, size=args.size, scale=(0.7, 1.0)),
        box=spec(transforms.CropToBox, size=args.size, margin=0.25, shift=0.08, zoom=0.15),
    )

    return recipe(
        steps=args.steps,
        dataset=args.dataset,
        data_dir=args.data_dir,
        transforms=(pick("crop", args.crop, crops),),
        batch_size=16 if args.smoke else 64,
        encoder=spec(dvae.DVAEEncoder, variant=args.variant),
        objective=spec(
            objective.DiscreteVAE,
            temperature=spec(schedules.cosine, first=1.0, last=1 / 16, duration_share=0.5),
            kl_weight=spec(schedules.cosine, first=0.0, last=6.6, duration_share=0.05),
        ),
        optimizer=spec(
            optim.adamw,
            learning_rate=1e-3,
            schedule=spec(schedules.warmup_cosine, warmup_share=0.02),
            b2=0.999,
            weight_decay=1e-4,
            clip_norm=1.0,
        ),
        log_every=1 if args.smoke else 50,
        remat="none",
    )
