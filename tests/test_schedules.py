import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax import schedules
from facerep_jax.config import build, spec


def values(schedule, steps):
    """The values of some steps, under jit as in a training step."""
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.asarray(steps, jnp.int32)), np.float64)


def half_a_cosine(first, last, share):
    return last + (first - last) * (1 + np.cos(np.pi * np.clip(share, 0, 1))) / 2


def test_a_constant_is_the_same_at_each_step():
    np.testing.assert_allclose(values(schedules.constant(value=0.3, steps=5), range(9)), 0.3, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "duration"),
    [(dict(duration_steps=50), 50), (dict(duration_share=0.25), 25), ({}, 100), (dict(duration_share=1.0), 100)],
)
def test_cosine_goes_from_first_to_last_and_stays(settings, duration):
    """tried: a whole cosine; a step too early; no clip at the end."""
    steps = np.array([0, 1, duration // 2, duration - 1, duration, duration + 1, 1000])
    found = values(schedules.cosine(first=1.0, last=1 / 16, **settings, steps=100), steps)
    np.testing.assert_allclose(found, half_a_cosine(1.0, 1 / 16, steps / duration), rtol=1e-5)
    np.testing.assert_allclose(found[[0, -1]], [1, 1 / 16], rtol=1e-6)


def test_a_share_that_is_less_than_a_step_is_one_step():
    """As in a smoke run of two steps. tried: the whole run in place of it."""
    np.testing.assert_allclose(
        values(schedules.cosine(first=0.0, last=6.6, duration_share=0.05, steps=2), range(4)), [0, 6.6, 6.6, 6.6]
    )


@pytest.mark.parametrize("settings", [dict(warmup_steps=10), dict(warmup_share=0.2)])
def test_warm_up_rises_in_a_straight_line_and_falls_by_half_a_cosine(settings):
    """tried: a cosine that ends with the warm-up's steps too late."""
    found = values(schedules.warmup_cosine(peak=1.0, first=0.1, last=0.2, **settings, steps=50), range(61))
    steps = np.arange(61)
    rise = 0.1 + 0.9 * steps / 10
    np.testing.assert_allclose(found, np.where(steps < 10, rise, half_a_cosine(1.0, 0.2, (steps - 10) / 40)), rtol=2e-5)


def multi_step(peak, milestones, step, gamma=0.1):
    """torch's MultiStepLR by its definition: the factor for each milestone that is reached."""
    return peak * gamma ** sum(step >= milestone for milestone in milestones)


@pytest.mark.parametrize(("warmup", "milestones"), [(10, (0.5, 0.8)), (0, (2 / 3,)), (0, ()), (5, (0.1, 0.2, 0.9))])
def test_steps_down_are_those_of_multisteplr(warmup, milestones):
    """tried: milestones counted from the end of the warm-up; a fall a step late."""
    schedule = schedules.warmup_steps_down(peak=0.3, first=0.01, warmup_steps=warmup, milestones=milestones, steps=100)
    expected = [
        0.01 + (0.3 - 0.01) * step / warmup
        if step < warmup
        else multi_step(0.3, [round(share * 100) for share in milestones], step)
        for step in range(120)
    ]
    np.testing.assert_allclose(values(schedule, range(120)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "described",
    [
        spec(schedules.cosine, first=1.0, last=0.0, duration_share=0.5),
        spec(schedules.cosine, first=0.0, last=2.0),
        spec(schedules.warmup_cosine, peak=1.0, first=0.0, last=0.1, warmup_share=0.1),
        spec(schedules.warmup_steps_down, peak=1.0, first=0.0, warmup_share=0.1, milestones=(0.5, 0.75)),
    ],
)
def test_shares_follow_the_length_of_the_run(described):
    """tried: shares of a fixed number of steps."""
    short, long = build(described, steps=40), build(described, steps=400)
    steps = np.arange(41)
    np.testing.assert_allclose(values(short, steps), values(long, 10 * steps), rtol=1e-4, atol=1e-6)


def test_a_duration_in_steps_does_not_follow_the_length():
    described = spec(schedules.cosine, first=1.0, last=0.0, duration_steps=20)
    np.testing.assert_array_equal(
        values(build(described, steps=40), range(41)), values(build(described, steps=400), range(41))
    )


@pytest.mark.parametrize(("warmup", "steps"), [(0, 5), (5, 2), (3, 1), (0, 1)])
@pytest.mark.parametrize("call", [schedules.warmup_cosine, schedules.warmup_steps_down])
def test_short_runs_have_a_schedule_too(call, warmup, steps):
    rates = values(call(peak=1.0, warmup_steps=warmup, steps=steps), range(steps + 1))
    assert np.isfinite(rates).all()
    assert 0 < rates.min() <= rates.max() <= 1


@pytest.mark.parametrize(
    ("duration", "share", "message"),
    [
        (5, 0.5, r"in steps \(5\) or as a share \(0\.5\) of the run, not both"),
        (0, 1.5, "a number of steps or a share from 0 to 1, not 0 or 1.5"),
        (0, -0.1, "a share from 0 to 1, not 0 or -0.1"),
        (-1, 0.0, "a number of steps or a share from 0 to 1, not -1 or 0.0"),
    ],
)
def test_a_duration_that_is_none_is_an_error(duration, share, message):
    with pytest.raises(ValueError, match=message):
        schedules.cosine(first=0.0, last=1.0, duration_steps=duration, duration_share=share, steps=10)
    with pytest.raises(ValueError, match=message):
        schedules.warmup_cosine(peak=1.0, warmup_steps=duration, warmup_share=share, steps=10)
