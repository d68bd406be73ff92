"""Reference: NumPy from the definition; torch's own is held against the whole head in `test_uper`.

Planted and seen red: the biased variance in the running statistics, one mean for all groups, running statistics that
are used in training.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.train.state import split
from facerep_jax.typing import Statistics


def batch(seed=0, shape=(6, 4, 5, 3)):
    return np.random.default_rng(seed).normal(3, 2, shape)


def made(rows=0):
    norm = BatchNorm(3, rows=rows)
    norm.scale.set_value(jnp.array([1.0, 2.0, -0.5]))
    norm.bias.set_value(jnp.array([0.0, 1.0, -1.0]))
    return norm


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_training_normalises_each_group_and_moves_the_running_statistics(groups):
    norm, mean, variance = made(6 // groups), np.zeros(3), np.ones(3)
    for step in range(2):
        x = batch(step)
        means, variances, expected = [], [], []
        for part in np.split(x, groups):
            rows = part.reshape(-1, 3)
            means.append(rows.mean(0))
            variances.append(rows.var(0, ddof=1))
            expected.append((part - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5) * [1, 2, -0.5] + [0, 1, -1])
        mean, variance = 0.9 * mean + 0.1 * np.mean(means, 0), 0.9 * variance + 0.1 * np.mean(variances, 0)
        found = norm(jnp.asarray(x, jnp.float32), train=True)
        np.testing.assert_allclose(found, np.concatenate(expected), atol=2e-5)
    np.testing.assert_allclose(norm.mean[...], mean, rtol=1e-5)
    np.testing.assert_allclose(norm.variance[...], variance, rtol=1e-5)


def test_evaluation_uses_the_running_statistics_and_leaves_them():
    norm = made()
    norm.mean.set_value(jnp.array([1.0, 2.0, 3.0]))
    norm.variance.set_value(jnp.array([4.0, 1.0, 9.0]))
    x = batch()
    expected = (x - [1, 2, 3]) / np.sqrt(np.array([4, 1, 9]) + 1e-5) * [1, 2, -0.5] + [0, 1, -1]
    np.testing.assert_allclose(norm(jnp.asarray(x, jnp.float32), train=False), expected, atol=2e-5)
    np.testing.assert_array_equal(norm.mean[...], [1, 2, 3])
    np.testing.assert_array_equal(norm(jnp.asarray(x[2:3, 0, 0], jnp.float32), train=False).shape, (1, 3))


def test_the_order_of_rows_matters_only_between_groups():
    x, order = jnp.asarray(batch(), jnp.float32), np.array([4, 1, 3, 0, 5, 2])
    np.testing.assert_allclose(made()(x, train=True)[order], made()(x[order], train=True), atol=1e-5)
    assert np.abs(made(3)(x, train=True)[order] - made(3)(x[order], train=True)).max() > 1e-2


def test_statistics_are_float32_whatever_the_input():
    x = jnp.asarray(1000 + batch(), jnp.bfloat16)  # bfloat16 could not tell these from one another when summed
    norm = made()
    found = norm(x, train=True)
    assert found.dtype == jnp.bfloat16
    exact = np.asarray(x, np.float64).reshape(-1, 3)
    np.testing.assert_allclose(norm.mean[...], 0.1 * exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(norm.variance[...], 0.9 + 0.1 * exact.var(0, ddof=1), rtol=1e-3)


def test_groups_keep_their_size_if_the_batch_grows():
    """As in a shared pass of several views. tried: a number of groups in place of their size."""
    x = jnp.asarray(batch(shape=(12, 4, 5, 3)), jnp.float32)
    whole = made(3)(x, train=True)
    for start in range(0, 12, 3):
        np.testing.assert_allclose(whole[start : start + 3], made()(x[start : start + 3], train=True), atol=1e-5)


def test_statistics_are_carried_and_have_no_gradient():
    norm = made()
    assert isinstance(norm.mean, Statistics)
    assert isinstance(norm.variance, Statistics)
    _, params, variables, frozen = split(norm)
    assert set(params) == {"scale", "bias"}
    assert set(variables) == {"mean", "variance"}
    assert not frozen
    # what the output does not change by: a shift of all values
    gradient = jax.grad(lambda shift: jnp.square(made()(jnp.asarray(batch(), jnp.float32) + shift, train=True)).sum())
    assert abs(gradient(0.0)) < 1e-2


def test_a_number_of_groups_holds_for_passes_of_any_size():
    """As SwAV's two and six crops of each example."""
    for rows in (6, 12):
        x = jnp.asarray(batch(shape=(rows, 4, 5, 3)), jnp.float32)
        grouped = BatchNorm(3, groups=3)(x, train=True)
        for part in range(3):
            mine = slice(part * rows // 3, (part + 1) * rows // 3)
            np.testing.assert_allclose(grouped[mine], BatchNorm(3)(x[mine], train=True), atol=1e-5)


def test_scale_and_bias_can_be_left_out():
    x = jnp.asarray(batch(), jnp.float32)
    norm, plain = BatchNorm(3), BatchNorm(3, scaled=False, shifted=False)
    np.testing.assert_array_equal(plain(x, train=True), norm(x, train=True))
    np.testing.assert_array_equal(plain(x, train=False), norm(x, train=False))
    assert not split(plain)[1]
    assert set(split(BatchNorm(3, scaled=False))[1]) == {"bias"}


def test_errors():
    with pytest.raises(ValueError, match="6 rows do not divide into 4 groups"):
        BatchNorm(3, groups=4)(jnp.zeros((6, 2, 2, 3)), train=True)
    with pytest.raises(ValueError, match="rows=2, groups=3"):
        BatchNorm(3, rows=2, groups=3)
    with pytest.raises(ValueError, match="6 rows do not divide into groups of 4 rows"):
        made(4)(jnp.zeros((6, 2, 2, 3)), train=True)
    with pytest.raises(ValueError, match="two values of a channel in each group, not 1"):
        made(1)(jnp.zeros((2, 1, 1, 3)), train=True)
