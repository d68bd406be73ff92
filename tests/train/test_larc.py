"""LARC by its definition, one array at a time. Planted and seen red: optax.lars's norm and order; decay at norm 0."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from facerep_jax.config import spec
from facerep_jax.train.larc import larc, warmup_cosine

TRUST, DECAY, MOMENTUM = 0.02, 0.1, 0.9


def stepped(params, gradients, rates, **settings):
    """What NumPy makes of parameters by path, step by step."""
    velocity = {name: np.zeros_like(w) for name, w in params.items()}
    for gradient, rate in zip(gradients, rates, strict=True):
        for name, w in params.items():
            layers = range(len(w)) if name.startswith("blocks/") else [...]
            for layer in layers:
                g, size = gradient[name][layer], np.linalg.norm(w[layer])
                if size and (slope := np.linalg.norm(g)):
                    g = (g + DECAY * w[layer]) * TRUST * size / (slope + DECAY * size + 1e-8)
                velocity[name][layer] = MOMENTUM * velocity[name][layer] + g
        params = {name: w - rate * velocity[name] for name, w in params.items()}
    return params


def test_steps_are_those_of_the_definition():
    """Oracle 10: of plain arrays, of stacked ones, of one at 0, which takes its gradient, of one without."""
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 4), "bias": (4,), "blocks/kernel": (2, 3, 4), "still": (2,)}
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    params["bias"] *= 0
    params["blocks/kernel"][1] *= 100  # a norm of its own
    gradients = [{name: rng.normal(size=shape) for name, shape in shapes.items()} for _ in range(4)]
    for gradient in gradients:
        gradient["still"] *= 0
    schedule = spec(warmup_cosine, first=0.3, last=0.1, warmup_steps=2)
    optimizer = larc(learning_rate=2.0, schedule=schedule, trust=TRUST, weight_decay=DECAY, momentum=MOMENTUM, steps=4)
    rates = [float(optimizer.schedule(step)) for step in range(4)]
    ours = {name: jnp.asarray(w, jnp.float32) for name, w in params.items()}
    state = optimizer.transform.init(ours)
    for gradient in gradients:
        given = {name: jnp.asarray(g, jnp.float32) for name, g in gradient.items()}
        updates, state = optimizer.transform.update(given, state, ours)
        ours = optax.apply_updates(ours, updates)
    for name, expected in stepped(params, gradients, rates).items():
        np.testing.assert_allclose(ours[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(ours["still"], params["still"].astype(np.float32))
    assert np.abs(np.asarray(ours["bias"])).max() > 0.3  # a raw gradient, at the full rate


def test_the_schedule_is_the_published_table():
    """facebookresearch/swav: numpy.linspace of the warm-up, then a cosine; both begin or end at the peak."""
    warmup, steps, first, peak, last = 10, 40, 0.3, 4.8, 0.0048
    rise = np.linspace(first, peak, warmup)
    t = np.arange(steps - warmup)
    fall = last + 0.5 * (peak - last) * (1 + np.cos(np.pi * t / (steps - warmup)))
    rates = warmup_cosine(peak=peak, first=first, last=last, warmup_steps=warmup, steps=steps)
    np.testing.assert_allclose([rates(step) for step in range(steps)], np.concatenate([rise, fall]), rtol=1e-5)
    assert rates(9) == pytest.approx(peak)
    assert rates(10) == pytest.approx(peak)
    without = warmup_cosine(peak=peak, last=last, steps=steps)
    assert without(0) == pytest.approx(peak)


def test_a_wrong_setting_is_named():
    with pytest.raises(ValueError, match="a warm-up of 4 steps leaves nothing of 4"):
        warmup_cosine(peak=1.0, last=0.0, warmup_steps=4, steps=4)
    optimizer = larc(freeze=(("nothing$", 2),), steps=4)
    with pytest.raises(ValueError, match=r"optimizer\.freeze has 'nothing\$', which matches no parameter"):
        optimizer.transform.init({"kernel": jnp.zeros(2)})
