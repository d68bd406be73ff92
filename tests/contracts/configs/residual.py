"""A residual network (tests/contracts/residual.py) by contrast with captions, on faces drawn as they are read."""

from ml_collections import ConfigDict

from facerep_jax.config import spec
from facerep_jax.data import transforms
from facerep_jax.models import text
from facerep_jax.objectives import contrastive
from facerep_jax.train import optim
from facerep_jax.train.recipe import recipe
from tests.contracts import residual


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe."""
    tower = spec(text.TextTransformer, vocabulary=256, context=16, width=16, depth=1, heads=2)
    return recipe(
        steps=4,
        log_every=1,
        dataset="generated_faces:size=48,train=64,validation=0,test=0",
        batch_size=16,
        transforms=(
            spec(transforms.RandomResizedCrop, size=48, scale=(0.7, 1.0)),
            spec(transforms.Tokenize, length=16, buckets=256),
        ),
        encoder=spec(residual.Residual),
        objective=spec(contrastive.Contrastive, text_encoder=tower, embedding=8),
        optimizer=spec(optim.adamw, learning_rate=1e-3),
        ema=0.9,
    )
