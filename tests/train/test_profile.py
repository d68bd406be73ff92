import jax.numpy as jnp
import pytest

from facerep_jax.train.profile import Profile


@pytest.mark.parametrize("steps", [(3,), (0, 2), (4, 4), (1, 2, 3)])
def test_steps_that_are_none_are_refused(tmp_path, steps):
    with pytest.raises(ValueError, match="profile_steps is a first step and the one after the last"):
        Profile(tmp_path, steps)


@pytest.mark.parametrize(("steps", "written"), [((), False), ((2, 4), True), ((7, 9), False)])
def test_a_trace_is_written_of_the_steps_that_are_asked_for(tmp_path, steps, written):
    profile = Profile(tmp_path / "profile", steps)
    for step in range(1, 6):
        profile.before(step)
        profile.after(step, {"loss": jnp.ones(()) * step})
        assert bool(list(tmp_path.rglob("*.xplane.pb"))) == (written and step >= 3)
    profile.close()


def test_a_run_that_ends_meanwhile_leaves_what_there_is(tmp_path):
    profile = Profile(tmp_path / "profile", (2, 9))
    profile.before(2)
    profile.close()
    assert list(tmp_path.rglob("*.xplane.pb"))
