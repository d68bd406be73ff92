import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from facerep_jax.models.layers import gelu_tanh
from facerep_jax.models.pooling import AttentionPool

WIDTH, HEADS = 8, 2


def test_it_is_attention_of_a_learnt_query_and_an_mlp_on_top(reference):
    make = lambda: AttentionPool(WIDTH, HEADS, hidden=12, activation=gelu_tanh, eps=1e-6, rngs=nnx.Rngs(params=0))  # noqa: E731
    pool = reference.randomised(nnx.eval_shape(make))
    p = reference.params(pool)
    x = np.random.default_rng(0).normal(size=(3, 5, WIDTH))

    def linear(part, x):
        return x @ p[part]["kernel"] + p[part]["bias"]

    expected = []
    for tokens in x:
        q, k, v = linear("query", p["probe"]), linear("key", tokens), linear("value", tokens)
        seen = np.zeros(WIDTH)
        for part in np.split(np.arange(WIDTH), HEADS):
            scores = np.exp(k[:, part] @ q[part] / len(part) ** 0.5)
            seen[part] = scores / scores.sum() @ v[:, part]
        y = linear("out", seen)
        hidden = linear("up", reference.norm(p["norm"], y[None], 1e-6)[0])
        active = hidden * (1 + np.tanh((2 / np.pi) ** 0.5 * (hidden + 0.044715 * hidden**3))) / 2
        expected.append(y + linear("down", active))
    found = jax.jit(lambda pool, x: pool(x))(pool, jnp.asarray(x, jnp.float32))
    reference.assert_equal(found, np.array(expected))
