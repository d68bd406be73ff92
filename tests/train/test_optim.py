import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from facerep_jax.config import build, spec
from facerep_jax.models.text import TextTransformer
from facerep_jax.models.tokenizer import KMeansTokenizer
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.combined import Combined
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.objectives.masked_tokens import MaskedTokens
from facerep_jax.train.optim import DECAYED, adamw, matching
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


def constant(**settings):
    """An optimizer whose learning rate is always 0.1."""
    return adamw(**{"learning_rate": 0.1, "final_learning_rate": 0.1, "steps": 100, **settings})


def test_kernels_projections_and_word_embeddings_are_decayed_and_nothing_else():
    """tried: decaying what has more than one axis, which takes stacked biases and norms along."""

    def make():
        encoder = ViT(variant="Nano/8", image_size=16, depth=2, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
        text = spec(TextTransformer, vocabulary=9, context=4, width=8, depth=2, heads=2)
        tokens = spec(MaskedTokens, tokenizer=spec(KMeansTokenizer, patch=8, codes=4), heads=3)
        terms = dict(contrastive=spec(Contrastive, text_encoder=text), masked_tokens=tokens)
        return Model(encoder, build(spec(Combined, terms=terms), encoder, rngs=nnx.Rngs(params=0)))

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
    optimizer = adamw(
        learning_rate=1.0,
        warmup_steps=10,
        initial_learning_rate=0.1,
        final_learning_rate=0.2,
        weight_decay=0.0,
        steps=50,
    )
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
    optimizer = adamw(learning_rate=1.0, warmup_steps=warmup, steps=steps)
    rates = np.array([float(optimizer.schedule(step)) for step in range(steps + 1)])
    assert np.isfinite(rates).all()
    assert rates[-1] == pytest.approx(1e-6)
    assert 0 < rates.min() <= rates.max() <= 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updates(optimizer)))


def test_steps_are_those_of_multisteplr():
    """tried: milestones counted from the end of the warm-up."""
    optimizer = constant(warmup_steps=10, initial_learning_rate=0.0, schedule="steps", milestones=(0.5, 0.8))
    rates = [float(optimizer.schedule(step)) for step in (0, 5, 10, 49, 50, 79, 80, 99)]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    flat_one = constant(schedule="steps")
    assert [float(flat_one.schedule(step)) for step in (0, 50, 99)] == pytest.approx([0.1] * 3)
    with pytest.raises(ValueError, match="schedule is cosine or steps, not 'linear'"):
        constant(schedule="linear")


def test_multipliers_scale_what_their_pattern_matches():
    """tried: the last pattern used for all (a closure over the loop's variable)."""
    plain = flat(updates(constant())[0])
    scaled = flat(updates(constant(multipliers=(("blocks", 0.5), (r"kernel$", 0.1), ("nowhere", 9.0))))[0])
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


def test_matching_goes_by_the_path():
    tree = {"a": {"kernel": 0, "kernel_norm": 0}, "projection": 0}
    assert flat(matching(tree, DECAYED)) == {"a/kernel": True, "a/kernel_norm": False, "projection": True}
