import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import build
from facerep_jax.evaluation.tasks.knn import KNN
from facerep_jax.evaluation.tasks.recognition import DrawnPairs, Recognition
from facerep_jax.typing import Task
from tests.evaluation.tasks.pooled_features import loss_of, make_encoder, pictures, seen

TASKS = (Recognition, DrawnPairs, KNN)


@pytest.mark.parametrize("kind", TASKS)
def test_pooled_features_are_compared_and_nothing_is_learnt(kind):
    task = kind(make_encoder(), image_size=32, meta={}, rngs=nnx.Rngs(0))
    assert isinstance(task, Task)
    assert task.splits == ("test",)
    np.testing.assert_array_equal(task.predict(seen(3), {}), seen(3)["image"].pooled)
    with pytest.raises(ValueError, match=f"{kind.title} compares features as they are"):
        loss_of(task, seen(3), {"identity": jnp.zeros(3)})


def test_pairs_come_from_the_table_or_are_drawn():
    assert (Recognition.tables, Recognition.needs) == (("pairs",), ("image",))
    assert (DrawnPairs.tables, DrawnPairs.needs) == ((), ("image", "identity"))
    assert build(Recognition.metric({})).table == "pairs"
    assert build(DrawnPairs.metric({})).table == ""


def test_the_baseline_does_not_see_brightness():
    images = pictures(3) // 2
    found = Recognition.baselines({}, {}, {"image": images}, {})["pixels"]
    brighter = KNN.baselines({}, {}, {"image": images + 40}, {})["pixels"]
    np.testing.assert_allclose(found, brighter, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    flat = Recognition.baselines({}, {}, {"image": np.full((2, 32, 32, 3), 7, np.uint8)}, {})["pixels"]
    assert not flat.any()
