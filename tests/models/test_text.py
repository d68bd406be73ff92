import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.models.text import TextTransformer

WIDTH, HEADS, CONTEXT, VOCABULARY = 16, 2, 8, 20
END = VOCABULARY - 1


def make(**settings):
    sizes = dict(vocabulary=VOCABULARY, context=CONTEXT, width=WIDTH, depth=2, heads=HEADS)
    return TextTransformer(**{**sizes, "dtype": "float32", "remat": "none", **settings}, rngs=nnx.Rngs(params=0))


@pytest.fixture(scope="module")
def tower(reference):
    return reference.randomised(nnx.eval_shape(make))


@pytest.fixture(scope="module")
def text():
    rows = [[18, 3, 4, END, 0, 0, 0, 0], [18, END, 0, 0, 0, 0, 0, 0], [18, 5, 6, 7, 8, 9, 10, END]]
    return jnp.asarray(rows, jnp.int32)


@jax.jit
def see(tower, text):
    return tower(text)


def numpy_tower(reference, tower, text):
    p = reference.params(tower)
    text = np.asarray(text)
    x = p["token_embedding"][text] + p["positions"][: text.shape[1]]
    last = reference.blocks(p["blocks"], x, HEADS, causal=True)[-1]
    return np.stack([reference.norm(p["norm_out"], last[i, row.tolist().index(END)]) for i, row in enumerate(text)])


def test_feature_equals_numpy_at_the_end_of_text(reference, tower, text):
    """tried: no causal mask; the last token in place of the end of text."""
    reference.assert_equal(see(tower, text), numpy_tower(reference, tower, text))


def test_shorter_padding_changes_nothing(reference, tower, text):
    short = text[:2, :5]
    reference.assert_equal(see(tower, short), numpy_tower(reference, tower, short))
    np.testing.assert_allclose(see(tower, short), see(tower, text)[:2], atol=1e-5)


def test_what_follows_the_end_of_text_does_not_matter(tower, text):
    noisy = text.at[0, 4:].set(jnp.asarray([7, 3, 9, END])).at[1, 2:].set(11)
    np.testing.assert_array_equal(see(tower, noisy), see(tower, text))
    changed = text.at[0, 1].set(5)
    assert np.abs(np.asarray(see(tower, changed) - see(tower, text)))[0].max() > 1e-2


def test_bfloat16_stays_close(tower, text):
    half = nnx.merge(nnx.graphdef(nnx.eval_shape(lambda: make(dtype="bfloat16"))), nnx.state(tower))
    ours, exact = np.asarray(see(half, text), np.float64), np.asarray(see(tower, text), np.float64)
    assert see(half, text).dtype == jnp.bfloat16
    assert 0 < np.linalg.norm(ours - exact) < 0.03 * np.linalg.norm(exact)


def test_as_many_parameters_as_clips_text_tower():
    whole = nnx.eval_shape(lambda: TextTransformer(dtype="float32", remat="none", rngs=nnx.Rngs(params=0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(whole))
    assert count + 512 * 512 + 1 == 63_428_097  # with the projection and the temperature, the contrastive objective's


def test_initial_values_are_clips():
    width, depth = 128, 2
    tower = jax.jit(lambda: make(width=width, depth=depth, vocabulary=200, context=50))()
    residual = width**-0.5 * (2 * depth) ** -0.5
    block = tower.blocks
    for parameter, deviation in (
        (tower.token_embedding, 0.02),
        (tower.positions, 0.01),
        (block.query.kernel, width**-0.5),
        (block.out.kernel, residual),
        (block.up.kernel, (2 * width) ** -0.5),
        (block.down.kernel, residual),
    ):
        np.testing.assert_allclose(np.asarray(parameter[...]).std(), deviation, rtol=0.05)


def test_too_long_a_text_is_an_error(tower):
    with pytest.raises(ValueError, match="texts of 9 tokens do not fit a context of 8"):
        tower(jnp.zeros((1, 9), jnp.int32))
