"""A pre-training of tests/train/tiny.py on drawn faces, for tests of the loop: its programs compile in a second."""

from ml_collections import ConfigDict

from facerep_jax.config import spec
from facerep_jax.data import transforms
from facerep_jax.train import optim
from facerep_jax.train.recipe import recipe
from tests.train import tiny


def get_config(arg: None = None) -> ConfigDict:
    """The recipe."""
    return recipe(
        steps=12,
        log_every=1,
        dataset="generated_faces:size=48,train=64,validation=0,test=0",
        batch_size=16,
        transforms=(spec(transforms.RandomResizedCrop, size=12, scale=(0.7, 1.0)),),
        encoder=spec(tiny.TinyEncoder),
        objective=spec(tiny.TinyObjective),
        optimizer=spec(optim.adamw, learning_rate=1e-2),
    )
