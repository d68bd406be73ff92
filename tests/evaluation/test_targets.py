"""Reference: NumPy from the definitions, over what is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax.evaluation.targets import (
    binary_entropy,
    discordance,
    entropy,
    numbers,
    of_pixels,
    one_of,
    squared,
    yes_or_no,
)

ATTRIBUTES = np.array([[1, 0, np.nan], [-1, 0.5, 0.7], [np.nan, -1, 1]], np.float32)


def test_what_labels_stand_for():
    values, known = yes_or_no(jnp.asarray(ATTRIBUTES), 3)
    np.testing.assert_array_equal(known, [[1, 1, 0], [0, 1, 1], [0, 0, 1]])
    np.testing.assert_array_equal(np.asarray(values)[np.asarray(known)], [1, -1, -1, 1, 1])
    values, known = one_of(jnp.array([2, -1, 0]), 3)
    np.testing.assert_array_equal(known.all(1), [True, False, True])
    np.testing.assert_array_equal(values[np.array([0, 2])], [[-1, -1, 1], [1, -1, -1]])
    values, known = numbers(jnp.array([31.0, jnp.nan]), 1)
    np.testing.assert_array_equal(values, [[31], [0]])
    np.testing.assert_array_equal(known, [[True], [False]])


def test_losses_are_means_over_what_is_known():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 3)).astype(np.float32)
    known = ATTRIBUTES >= 0
    p = 1 / (1 + np.exp(-scores[known].astype(np.float64)))
    yes = ATTRIBUTES[known] > 0.5
    expected = -np.where(yes, np.log(p), np.log(1 - p)).mean()
    assert float(binary_entropy(jnp.asarray(scores), yes_or_no(jnp.asarray(ATTRIBUTES), 3))) == pytest.approx(
        expected, rel=1e-5
    )

    classes = np.array([2, -1, 0])
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    found = entropy(jnp.asarray(scores), one_of(jnp.asarray(classes), 3))
    assert float(found) == pytest.approx(-(log_p[0, 2] + log_p[2, 0]) / 2, rel=1e-5)

    truth = np.where(known, ATTRIBUTES, np.nan).astype(np.float32)
    deviation = np.array([1.0, 2, 4], np.float32)
    error = np.square((scores - truth) / deviation)[known].mean()
    found = squared(jnp.asarray(scores), numbers(jnp.asarray(truth), 3), jnp.asarray(deviation))
    assert float(found) == pytest.approx(error, rel=1e-5)


def test_discordance_is_one_less_the_concordance_of_each_output():
    rng = np.random.default_rng(1)
    found, truth = rng.normal(size=(20, 2)).astype(np.float32), rng.normal(0.5, 1, (20, 2)).astype(np.float32)
    truth[:4, 0] = np.nan
    expected = []
    for x, y in zip(found.T, truth.T, strict=True):
        x, y = (each[np.isfinite(y)].astype(np.float64) for each in (x, y))
        covariance = ((x - x.mean()) * (y - y.mean())).mean()
        expected.append(1 - 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))
    assert float(discordance(jnp.asarray(found), numbers(jnp.asarray(truth), 2))) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    ("loss", "encode", "labels"),
    [
        (binary_entropy, yes_or_no, ATTRIBUTES),
        (discordance, numbers, ATTRIBUTES),
        (lambda x, y: squared(x, y, jnp.ones(3)), numbers, ATTRIBUTES),
        (entropy, one_of, np.array([1, -1, -1])),
        (discordance, numbers, np.full((3, 3), np.nan, np.float32)),  # nothing is known
        (entropy, one_of, np.array([-1, -1, -1])),
    ],
)
def test_what_is_not_known_gives_no_gradient_and_no_nan(loss, encode, labels):
    targets = encode(jnp.asarray(labels), 3)
    for scores in (jnp.ones((3, 3)), jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)):
        gradient = np.asarray(jax.grad(lambda x, t=targets: loss(x, t))(scores))
        assert np.isfinite(gradient).all()
        assert not gradient[~np.asarray(targets.known)].any()


def test_pixels_tell_what_is_linear_in_them():
    """Two numbers, the brightness of either half of an image; one is not known in most images, a third in none."""
    rng = np.random.default_rng(0)

    def split(count):
        shades = rng.integers(0, 256, (count, 2))
        images = np.repeat(np.repeat(shades[:, None, :, None], 32, 1), 16, 2) * np.ones(3, int)
        return {"image": images.astype(np.uint8), "shade": np.c_[shades, np.full(count, np.nan)].astype(np.float32)}

    train, validation, test = split(40), split(10), split(10)
    wanted = test["shade"][:, :2].copy()
    train["shade"][8:, 1] = np.nan
    found = of_pixels(train, validation, test, "shade", numbers, 3)
    assert np.abs(found[:, 0] - wanted[:, 0]).max() < 3
    assert np.corrcoef(found[:, 1], wanted[:, 1])[0, 1] > 0.95
    assert not found[:, 2].any()
