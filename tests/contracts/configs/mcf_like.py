"""MCF in small (tests/contracts/mcf_like.py) on drawn faces. Arguments: weights of the frozen network; residual."""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, spec
from facerep_jax.data import transforms
from facerep_jax.models import views, vit
from facerep_jax.objectives import combined
from facerep_jax.train import optim
from facerep_jax.train.recipe import recipe
from tests.contracts import mcf_like, residual

SIZE = 32


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; `arg` is what follows the colon."""
    args = parse_arg(arg, weights="random", residual=False)
    whole = spec(vit.ViT, variant="Nano/8", image_size=SIZE, width=16, depth=1, heads=2)
    if args.residual:  # one token an image: its map's 32nd part
        whole = spec(residual.Residual)
    patches = dict(share=0.5)
    return recipe(
        steps=4,
        log_every=1,
        dataset="generated_faces:size=48,train=64,validation=0,test=0",
        batch_size=16,
        transforms=(spec(transforms.RandomResizedCrop, size=SIZE, scale=(0.7, 1.0)),),
        encoder=spec(vit.ViT, variant="Nano/8", image_size=SIZE, width=32, depth=4, heads=2, drop_path=0.2),
        objective=spec(
            combined.Combined,
            views=dict(kept=spec(views.RandomPatches, **patches)),
            terms=dict(
                contrast=spec(mcf_like.MomentumContrast),
                features=spec(mcf_like.MaskedFeatures, network=whole, weights=args.weights),
            ),
        ),
        optimizer=spec(optim.adamw, learning_rate=1e-3),
        ema=0.9,
    )
