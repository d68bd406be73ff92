"""Planted and seen red: coordinates from corners of patches; columns before rows; frequencies to 1 / 10000."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax.models.attention import einsum
from facerep_jax.models.layers import rotated
from facerep_jax.models.positions import linear_matrix, resized, rope, sincos


def test_moco_v3s_table_is_maes_with_the_halves_swapped():
    mae, moco = sincos(3, 3, 16), sincos(3, 3, 16, rows_first=True)
    np.testing.assert_array_equal(moco, np.concatenate([mae[:, 8:], mae[:, :8]], axis=1))
    np.testing.assert_array_equal(moco[1:].reshape(3, 3, 16), mae[1:].reshape(3, 3, 16).swapaxes(0, 1))


def test_a_table_without_a_class_token_is_resized_as_one_with():
    table = np.random.default_rng(0).normal(size=(10, 8)).astype(np.float32)
    whole = resized(jnp.asarray(table), (3, 3), (5, 2))
    np.testing.assert_array_equal(whole[:1], table[:1])
    np.testing.assert_allclose(resized(jnp.asarray(table[1:]), (3, 3), (5, 2), before=0), whole[1:], atol=1e-6)


def test_angles_are_those_of_dinov3_element_by_element():
    rows, columns, width = 2, 3, 8
    found = rope(rows, columns, width)
    for n in range(rows * columns):
        centre = 2 * (n // columns + 0.5) / rows - 1, 2 * (n % columns + 0.5) / columns - 1
        for axis in range(2):
            for i in range(width // 4):
                angle = 2 * np.pi * centre[axis] / 100 ** (i / (width // 4))
                for place in (axis * width // 4 + i, axis * width // 4 + i + width // 2):
                    np.testing.assert_allclose(found[n, place], angle, rtol=1e-5)
    with pytest.raises(ValueError, match="heads whose width is a multiple of 4, not 6"):
        rope(2, 2, 6)


def test_a_rotation_leaves_lengths_and_the_first_tokens_and_scores_of_equal_shifts():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 3, 8)), jnp.float32)
    angles = jnp.asarray(rope(2, 2, 8))[None]
    turned = rotated(x, angles)
    np.testing.assert_array_equal(turned[:, :1], x[:, :1])
    np.testing.assert_allclose(jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5)
    same = jnp.broadcast_to(x[:, :1], x.shape)
    scores = jnp.einsum("bnke,bmke->bknm", rotated(same, angles), rotated(same, angles))[..., 1:, 1:]
    np.testing.assert_allclose(scores[..., 0, 1], scores[..., 2, 3], rtol=1e-4)  # one step to the right in either row
    assert np.abs(np.asarray(scores[..., 0, 1] - scores[..., 0, 2])).max() > 1e-2


def test_attention_takes_fewer_queries_than_keys():
    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (jax.random.normal(key, (2, n, 3, 4)) for key, n in zip(keys, (1, 5, 5), strict=True))
    expected = jax.nn.dot_product_attention(q, k, v)
    np.testing.assert_allclose(einsum(q, k, v, causal=False), expected, atol=1e-5)


def test_a_linear_kernel_is_widened_where_it_shrinks():
    np.testing.assert_allclose(linear_matrix(2, 4), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    np.testing.assert_allclose(linear_matrix(4, 2), np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7, rtol=1e-6)
    np.testing.assert_array_equal(linear_matrix(3, 3), np.eye(3))
    table = jax.random.normal(jax.random.key(0), (1 + 4 * 4, 2))
    found = resized(table, (4, 4), (2, 3), by="linear")
    expected = np.kron(linear_matrix(4, 2), linear_matrix(4, 3)) @ table[1:]
    np.testing.assert_allclose(found, np.concatenate([table[:1], expected]), atol=1e-6)
