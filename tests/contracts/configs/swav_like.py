"""SwAV in small (tests/contracts/swav_like.py) with a residual network, on faces drawn as they are read."""

from ml_collections import ConfigDict

from facerep_jax.config import spec
from facerep_jax.train.recipe import recipe
from tests.contracts import residual, swav_like


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe."""
    return recipe(
        steps=4,
        log_every=1,
        dataset="generated_faces:size=48,train=64,validation=0,test=0",
        batch_size=16,
        transforms=(spec(swav_like.MultiCrop),),
        encoder=spec(residual.Residual, channels=4),
        objective=spec(swav_like.SwAV),
        optimizer=spec(swav_like.larc_sgd, freeze=(("prototypes$", 2),)),
    )
