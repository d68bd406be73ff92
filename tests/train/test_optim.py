import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from facerep_jax import schedules
from facerep_jax.config import build, spec
from facerep_jax.models.text import TextTransformer
from facerep_jax.models.tokenizer import KMeansTokenizer
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.combined import Combined
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.objectives.masked_tokens import MaskedTokens
from facerep_jax.train.optim import DECAYED, adamw, frozen_at_first, matching
from facerep_jax.train.state import Model, abstract, flat

PARAMS = {"blocks": {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.full((2, 3), 3.0)}, "scale": jnp.float32(1.5)}
GRADIENT = {"blocks": {"kernel": jnp.full((2, 3), 0.5), "bias": jnp.full((2, 3), -0.25)}, "scale": jnp.float32(2.0)}


def updates(optimizer, steps=1, gradient=GRADIENT):
    """What each of some steps adds to parameters that stay where they are."""
    state = optimizer.transform.init(PARAMS)
    given = []
    for _ in range(steps):
        update, state = optimizer.transform.update(gradient, state, PARAMS)
        given.append(update)
    return given


CONSTANT = spec(schedules.warmup_cosine, last=0.1)


def constant(**settings):
    """An optimizer whose learning rate is always 0.1."""
    return adamw(**{"learning_rate": 0.1, "schedule": CONSTANT, "steps": 100, **settings})


def test_kernels_projections_and_word_embeddings_are_decayed_and_nothing_else():
    """tried: decaying what has more than one axis, which takes stacked biases and norms along."""

    def make():
        encoder = ViT(variant="Nano/8", image_size=16, depth=2, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
        text = spec(TextTransformer, vocabulary=9, context=4, width=8, depth=2, heads=2)
        tokens = spec(MaskedTokens, tokenizer=spec(KMeansTokenizer, patch=8, codes=4), heads=3)
        terms = dict(contrastive=spec(Contrastive, text_encoder=text), masked_tokens=tokens)
        return Model(encoder, build(spec(Combined, terms=terms), encoder, steps=1, rngs=nnx.Rngs(params=0)))

    decayed = flat(matching(abstract(make)[1], DECAYED))
    layers = ("query", "key", "value", "out", "up", "down")
    stacks = ("encoder", "objective/terms/contrastive/text_encoder", "objective/terms/masked_tokens")
    contrastive = "objective/terms/contrastive"
    expected = {f"{stack}/blocks/{layer}/kernel" for stack in stacks for layer in layers}
    expected |= {f"{contrastive}/{name}" for name in ("image_projection", "text_projection")}
    expected |= {"encoder/embed/kernel", "objective/terms/masked_tokens/head/kernel"}
    expected |= {f"{contrastive}/text_encoder/token_embedding"}
    assert {path for path, yes in decayed.items() if yes} == expected
    for path in ("encoder/blocks/query/bias", "encoder/blocks/mlp_norm/scale", "encoder/positions"):
        assert decayed[path] is False


def test_a_step_is_adamws():
    """AdamW by its definition (1711.05101), with decay coupled to the learning rate as in torch and optax."""
    b1, b2, lr, decay = 0.8, 0.95, 0.1, 0.3
    given = updates(constant(b1=b1, b2=b2, weight_decay=decay), steps=3)
    for path, g in flat(GRADIENT).items():
        m = v = np.zeros_like(g)
        for t in (1, 2, 3):
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.square(g)
            step = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
            step = step + (decay * flat(PARAMS)[path] if path.endswith("kernel") else 0)
            np.testing.assert_allclose(flat(given[t - 1])[path], -lr * step, rtol=1e-5)


def test_schedule_warms_up_and_falls_as_half_a_cosine():
    """tried: a cosine that ends with the warm-up's steps too late."""
    rates = spec(schedules.warmup_cosine, warmup_steps=10, first=0.1, last=0.2)
    optimizer = adamw(learning_rate=1.0, schedule=rates, weight_decay=0.0, steps=50)
    schedule = optimizer.schedule
    assert [float(schedule(step)) for step in (0, 5, 10)] == pytest.approx([0.1, 0.55, 1.0])
    assert float(schedule(30)) == pytest.approx(0.6)  # half way down
    for step in (17, 49):
        assert float(schedule(step)) == pytest.approx(0.2 + 0.8 * (1 + np.cos(np.pi * (step - 10) / 40)) / 2)
    assert float(schedule(50)) == float(schedule(60)) == pytest.approx(0.2)
    sizes = [-float(update["scale"]) for update in updates(optimizer, 3)]  # Adam's first steps have size one
    assert sizes == pytest.approx([float(schedule(step)) for step in range(3)], rel=1e-4)


@pytest.mark.parametrize(("warmup", "steps"), [(0, 5), (5, 2), (3, 1), (0, 1)])
def test_short_runs_have_a_schedule_too(warmup, steps):
    optimizer = adamw(learning_rate=1.0, schedule=spec(schedules.warmup_cosine, warmup_steps=warmup), steps=steps)
    rates = np.array([float(optimizer.schedule(step)) for step in range(steps + 1)])
    assert np.isfinite(rates).all()
    assert rates[-1] == pytest.approx(1e-6)
    assert 0 < rates.min() <= rates.max() <= 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updates(optimizer)))


def test_steps_are_those_of_multisteplr():
    """tried: milestones counted from the end of the warm-up."""
    down = spec(schedules.warmup_steps_down, warmup_steps=10, first=0.0, milestones=(0.5, 0.8))
    optimizer = constant(schedule=down)
    rates = [float(optimizer.schedule(step)) for step in (0, 5, 10, 49, 50, 79, 80, 99)]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    flat_one = constant(schedule=spec(schedules.warmup_steps_down))
    assert [float(flat_one.schedule(step)) for step in (0, 50, 99)] == pytest.approx([0.1] * 3)
    with pytest.raises(ValueError, match=r"no callable 'facerep_jax\.schedules:linear'"):
        constant(schedule={"call": "facerep_jax.schedules:linear"})


def test_multipliers_scale_what_their_pattern_matches():
    """tried: the last pattern used for all (a closure over the loop's variable)."""
    plain = flat(updates(constant())[0])
    scaled = flat(updates(constant(multipliers=(("blocks", 0.5), (r"kernel$", 0.1))))[0])
    for path, factor in (("blocks/kernel", 0.05), ("blocks/bias", 0.5), ("scale", 1.0)):
        np.testing.assert_allclose(scaled[path], factor * plain[path], rtol=1e-6)


def test_clipping_holds_the_global_norm_and_leaves_smaller_gradients():
    """Adam forgets the scale of one gradient but not of two."""

    def second(optimizer, first):
        state = optimizer.transform.init(PARAMS)
        _, state = optimizer.transform.update(first, state, PARAMS)
        return float(optimizer.transform.update(GRADIENT, state, PARAMS)[0]["scale"])

    norm = float(optax.tree.norm(GRADIENT))
    large = jax.tree.map(lambda g: 100 * g, GRADIENT)
    clip = constant(clip_norm=norm, weight_decay=0.0)
    assert second(clip, large) == pytest.approx(second(clip, GRADIENT), rel=1e-5)
    assert second(constant(weight_decay=0.0), large) != pytest.approx(second(clip, GRADIENT), rel=1e-2)
    assert second(constant(clip_norm=2 * norm), GRADIENT) == second(constant(), GRADIENT)


FREEZE = (("bias$", 2), ("blocks/kernel", 4))
THAWED = {"blocks/bias": 2, "blocks/kernel": 4, "scale": 0}


def some(step):
    """The gradient of a step: another one each time."""
    rng = np.random.default_rng(step)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), PARAMS)


def run(transform, steps, params=PARAMS, gradients=some):
    """Parameters after each of some steps."""
    state, seen = transform.init(params), []
    for step in range(steps):
        update, state = jax.jit(transform.update)(gradients(step), state, params)
        params = optax.apply_updates(params, update)
        seen.append(flat(params))
    return seen


@pytest.mark.parametrize("momentum", ["plain", "nesterov"])
def test_a_frozen_parameter_is_one_whose_training_starts_later(momentum):
    """With coupled decay, which would build up momentum, against runs that are not frozen and start at the thaw.

    tried: the update masked alone; decay that reaches the momentum; a step too few or too many; one pattern for all.
    """
    transform = optax.chain(
        optax.add_decayed_weights(0.3), optax.sgd(0.1, momentum=0.9, nesterov=momentum == "nesterov")
    )
    frozen = run(frozen_at_first(transform, FREEZE), 7)
    for path, thaw in THAWED.items():
        later = run(transform, 7 - thaw, gradients=lambda step, thaw=thaw: some(step + thaw))
        for step in range(7):
            expected = flat(PARAMS)[path] if step < thaw else later[step - thaw][path]
            np.testing.assert_array_equal(frozen[step][path], expected, err_msg=f"{path} after step {step}")


def test_freezing_masks_update_momentum_and_decay_of_adamw():
    """AdamW by its definition, whose steps are counted from the run's start. tried: the gradient masked alone."""
    b1, b2, lr, decay = 0.8, 0.95, 0.1, 0.3
    found = run(constant(b1=b1, b2=b2, weight_decay=decay, freeze=FREEZE).transform, 7)
    for path, thaw in THAWED.items():
        x = np.asarray(flat(PARAMS)[path], np.float64)
        m = v = np.zeros_like(x)
        for step in range(7):
            if step >= thaw:
                g, t = np.asarray(flat(some(step))[path], np.float64), step + 1
                m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * np.square(g)
                move = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
                x = x - lr * (move + (decay * x if path.endswith("kernel") else 0))
                np.testing.assert_allclose(found[step][path], x, rtol=1e-5)
            else:
                np.testing.assert_array_equal(found[step][path], flat(PARAMS)[path])


def test_minus_one_freezes_for_ever():
    """tried: -1 taken for a number of steps that is over."""
    found = run(constant(freeze=(("blocks", -1),)).transform, 5)
    for params in found:
        np.testing.assert_array_equal(params["blocks/kernel"], PARAMS["blocks"]["kernel"])
        np.testing.assert_array_equal(params["blocks/bias"], PARAMS["blocks"]["bias"])
    assert abs(float(found[0]["scale"]) - 1.5) > 0.05


def test_gradients_of_frozen_parameters_do_not_count_towards_clipping():
    """What is trained goes as if it were alone. tried: the update masked alone."""
    loud = jax.tree.map(lambda x: 100 * x, GRADIENT)
    clip = constant(clip_norm=1.0, weight_decay=0.0, freeze=(("blocks", -1),)).transform
    quiet = {"blocks": GRADIENT["blocks"], "scale": loud["scale"]}
    given = [run(clip, 2, gradients=lambda step, g=g: g if step else GRADIENT)[1]["scale"] for g in (loud, quiet)]
    assert given[0] == given[1]


def test_nothing_is_frozen_unless_asked_for():
    transform = optax.sgd(0.1)
    assert frozen_at_first(transform, ()) is transform


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(freeze=(("blok", 5),)), r"optimizer\.freeze has 'blok', which matches no parameter; .*'blocks/bias'"),
        (dict(multipliers=(("^block$", 2.0),)), r"optimizer\.multipliers has '\^block\$', which matches no parameter"),
        (dict(decayed="krenel"), r"optimizer\.decayed has 'krenel', which matches no parameter"),
        (dict(decayed="("), r"optimizer\.decayed has '\(', which is no regular expression: missing \)"),
    ],
)
def test_patterns_of_a_config_that_match_nothing_are_refused(settings, message):
    """The default of `decayed` may: a model can be without kernels."""
    constant().transform.init({"scale": PARAMS["scale"]})
    with pytest.raises(ValueError, match=message):
        constant(**settings).transform.init(PARAMS)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (spec(schedules.constant), [0.1, 0.1, 0.1]),
        (spec(schedules.cosine, last=0.0), [0.1, 0.05, 0.0]),
        (spec(schedules.warmup_cosine, first=0.0, last=0.1), [0.1, 0.1, 0.1]),
    ],
)
def test_every_schedule_starts_from_the_learning_rate(schedule, expected):
    """Tried: each is given a peak."""
    rates = constant(schedule=schedule).schedule
    assert [float(rates(step)) for step in (0, 50, 100)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (spec(schedules.constant, value=0.3), r"says value=0\.3, which optimizer\.learning_rate=0\.1 says"),
        (spec(schedules.cosine), r"schedules:cosine: missing a required .*argument: 'last'"),
        (dict(call="facerep_jax.schedules:duration_of"), r"duration_of is no schedule of a learning rate"),
    ],
)
def test_a_schedule_that_cannot_be_made_is_one_line(schedule, message):
    with pytest.raises(ValueError, match=message):
        constant(schedule=schedule)


def test_matching_goes_by_the_path():
    tree = {"a": {"kernel": 0, "kernel_norm": 0}, "projection": 0}
    assert flat(matching(tree, DECAYED)) == {"a/kernel": True, "a/kernel_norm": False, "projection": True}
