"""How a task learns a few faces by heart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from facerep_jax.config import spec
from facerep_jax.data.features import open_dataset
from facerep_jax.data.pipeline import build_transforms, load
from facerep_jax.data.transforms import CropToBox
from facerep_jax.models.views import encode
from facerep_jax.models.vit import ViT
from facerep_jax.train.state import Model, abstract, initial, merge
from facerep_jax.train.step import make_step
from facerep_jax.typing import View

SIZE = 48


def learnt(task_class, *, steps, **keywords):
    """Eight faces, their data set's meta, and the task's prediction for them after it and an encoder learnt them."""
    dataset = open_dataset(f"generated_faces:size={SIZE},train=8,validation=0,test=0,sessions=1,frames=1", "nowhere")
    transforms = build_transforms([spec(CropToBox, size=SIZE, margin=0.25)])
    faces = load(dataset.source("train"), transforms, task_class.needs)
    batch = {name: jnp.asarray(faces[name]) for name in task_class.needs} | {
        "position": jnp.arange(8, dtype=jnp.uint32)
    }

    def make():
        sizes = dict(variant="Nano/8", image_size=SIZE, width=32, depth=4, heads=2)
        encoder = ViT(**sizes, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
        task = task_class(
            encoder, taps=(0, 1, 2, 3), image_size=SIZE, meta=dataset.meta, rngs=nnx.Rngs(params=1), **keywords
        )
        return Model(encoder, task)

    @jax.jit
    def predict(state):
        model = merge(graph, state.params, state.variables, {})
        views = {"image": View(batch["image"], taps=(0, 1, 2, 3))}
        return model.objective.predict(encode(model.encoder, views), batch)

    optimizer, graph = optax.adam(1e-2), abstract(make)[0]
    state = jax.jit(lambda: initial(make, optimizer.init, ema=False))()
    step = jax.jit(make_step(graph, optimizer, seed=0), donate_argnums=0)
    for _ in range(steps):
        state, _ = step(state, {}, batch)
    return faces, dataset.meta, np.asarray(predict(state))


@pytest.fixture(scope="session", name="learnt")
def learnt_fixture():
    return learnt
