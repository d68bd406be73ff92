import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from facerep_jax.config import build_with, spec
from facerep_jax.models.dvae import DVAEEncoder
from facerep_jax.models.text import TextTransformer
from facerep_jax.models.tokenizer import KMeansTokenizer
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.combined import Combined
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.objectives.dvae import DiscreteVAE
from facerep_jax.objectives.masked_tokens import MaskedTokens
from facerep_jax.train import optim, sharding
from facerep_jax.train.state import Model, abstract, flat, initial, split
from facerep_jax.train.step import look_at_views, make_step
from facerep_jax.typing import Carried, Statistics, View

BATCH = 16


def make_encoder():
    sizes = dict(variant="Nano/4", image_size=8, width=16, depth=2, heads=2, drop_path=0.5)
    return ViT(**sizes, dtype="float32", remat="dots_with_no_batch_dims_saveable", rngs=nnx.Rngs(params=0))


TERMS = dict(
    contrastive=spec(
        Contrastive,
        text_encoder=spec(TextTransformer, vocabulary=32, context=6, width=16, depth=1, heads=2),
        embedding=8,
    ),
    masked_tokens=spec(MaskedTokens, tokenizer=spec(KMeansTokenizer, patch=4, codes=8, cells=2), count=2, heads=2),
)
OBJECTIVES = dict(
    farl=spec(Combined, terms=TERMS, weights=dict(contrastive=1.0, masked_tokens=0.5)),
    contrastive=TERMS["contrastive"],
    masked_tokens=TERMS["masked_tokens"],
    dvae=spec(DiscreteVAE, embedding=16),
)


def make_model(objective):
    encoder = make_encoder()
    if objective == "dvae":
        encoder = DVAEEncoder(variant="Nano", codes=16, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
    return Model(encoder, build_with(OBJECTIVES[objective], {"steps": 10}, encoder, rngs=nnx.Rngs(params=1)))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (BATCH, 8, 8, 3), np.uint8),
        "text": np.concatenate([rng.integers(1, 31, (BATCH, 5)), np.full((BATCH, 1), 31)], 1).astype(np.int32),
        "masked": np.array([rng.permutation(4) < rng.integers(0, 3) for _ in range(BATCH)]),
        "position": np.arange(100, 100 + BATCH, dtype=np.uint32),
    }


OPTIMIZER = optim.adamw(learning_rate=1e-2, b1=0.9, steps=10, clip_norm=0.0)


@pytest.fixture(scope="module")
def case(reference):
    """`case(objective)`: the state before the first step, what is frozen, and the step; one device, compiled once."""

    @functools.cache
    def case(objective):
        make = functools.partial(make_model, objective)
        model = reference.randomised(nnx.eval_shape(make))
        for _, module in nnx.iter_modules(model):
            if isinstance(module, KMeansTokenizer):
                module.centres.set_value(jax.random.normal(jax.random.key(0), module.centres.shape))
                module.frequency.set_value(jnp.full(8, 1 / 8))
        graph, params, _, frozen = split(model)
        empty = abstract(make)[2]
        state = initial(lambda: model, OPTIMIZER.transform.init, ema=True)
        state = jax.device_get(state._replace(params=params, variables=empty))
        step = make_step(graph, OPTIMIZER.transform, seed=3, ema=0.9)
        return SimpleNamespace(state=state, frozen=jax.device_get(frozen), step=step, jitted=jax.jit(step))

    return case


@pytest.fixture(scope="module")
def farl(case):
    return case("farl")


def gradients(state):
    """Of the step before: Adam's first moment is a tenth of them."""
    return flat(state.opt_state[1][0].mu)


def assert_states_equal(one, other):
    """1e-5 in relative norm for each leaf, in gradients, parameters and their average.

    Attention does not depend on the key's bias, whose gradient is rounding, and AdamW makes whole steps of it. Of the
    second moment the root is compared, which is on the scale of gradients: a square has twice their relative error.
    """
    # In NumPy: each eager operation of jax would be compiled for each shape.
    total = np.sqrt(sum(np.square(np.asarray(leaf, np.float64)).sum() for leaf in gradients(one).values()))
    others = flat(jax.device_get(other))
    for path, leaf in flat(jax.device_get(one)).items():
        leaf, same = np.asarray(leaf, np.float64), np.asarray(others[path], np.float64)
        if "/nu/" in path:
            leaf, same = np.sqrt(leaf), np.sqrt(same)
        difference = np.linalg.norm(leaf - same)
        if path.endswith("key/bias"):
            assert "/mu/" not in path or difference < 1e-5 * total
            continue
        assert difference <= 1e-5 * np.linalg.norm(leaf) + 1e-9 * total, path


MESHES = dict(replicated=dict(replica=8), fsdp=dict(replica=2, fsdp=4), fsdp_tensor=dict(replica=2, fsdp=2, model=2))


@pytest.mark.parametrize(
    ("objective", "rules"),
    [
        pytest.param(objective, rules, marks=() if (objective, rules) == ("farl", "fsdp_tensor") else pytest.mark.slow)
        for objective in OBJECTIVES
        for rules in MESHES
    ],
)
def test_a_step_on_eight_devices_equals_a_step_on_one(case, batch, objective, rules, capfd):
    """And is compiled as it should be: the state is updated in place, and nothing is gathered for want of a better way.

    Tried: positions in another order on the mesh; a contrastive loss of each device's rows alone; no donation. Without
    any pin it stays green: models of this size are not gathered.
    """
    one, mesh = case(objective), sharding.make_mesh(MESHES[rules])
    layout = sharding.shardings(one.state, mesh, sharding.rules_of(rules, {}))
    whole, batches = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    expected, metrics = one.jitted(one.state, one.frozen, batch)
    with jax.set_mesh(mesh):
        step = jax.jit(one.step, in_shardings=(layout, whole, batches), out_shardings=(layout, whole), donate_argnums=0)
        split_batch = sharding.global_batch(batch, mesh)
        assert len(split_batch["image"].sharding.device_set) == 8
        given = (jax.device_put(one.state, layout), jax.device_put(one.frozen, whole), split_batch)
        compiled = step.lower(*given).compile()
        held = bytes_per_device(given[0])
        state, more = compiled(*given)
    assert "Involuntary full rematerialization" not in capfd.readouterr().err
    assert compiled.memory_analysis().alias_size_in_bytes >= 0.99 * held
    assert bytes_per_device(state.opt_state[1][0].mu) == bytes_per_device(state.params)
    assert bytes_per_device(state.ema["params"]) == bytes_per_device(state.params)
    for name, value in metrics.items():
        np.testing.assert_allclose(more[name], value, rtol=1e-5, err_msg=name)
    assert_states_equal(expected, state)
    if "blocks" in state.params["encoder"]:
        kernel = state.params["encoder"]["blocks"]["up"]["kernel"]
        assert kernel.sharding.is_fully_replicated == (rules == "replicated")


def bytes_per_device(tree):
    """Of the first device, which holds as much as any."""
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


def test_the_order_of_the_batch_does_not_matter(farl, batch):
    """tried: keys folded from the row."""
    expected, metrics = farl.jitted(farl.state, farl.frozen, batch)
    order = np.random.default_rng(1).permutation(BATCH)
    state, permuted = farl.jitted(farl.state, farl.frozen, {name: rows[order] for name, rows in batch.items()})
    for name, value in metrics.items():
        np.testing.assert_allclose(permuted[name], value, rtol=1e-5, err_msg=name)
    assert_states_equal(expected, state)
    moved = {**batch, "position": batch["position"] + np.uint32(BATCH)}
    assert abs(farl.jitted(farl.state, farl.frozen, moved)[1]["loss"] - metrics["loss"]) > 1e-4


def test_a_step_moves_everything_that_is_learnt(farl, batch):
    state, metrics = farl.jitted(farl.state, farl.frozen, batch)
    assert state.step == 1
    for path, leaf in flat(state.params).items():
        assert np.abs(np.asarray(leaf) - flat(farl.state.params)[path]).max() > 0, path
    g = gradients(state)
    norm = np.sqrt(sum(np.square(10 * np.asarray(leaf, np.float64)).sum() for leaf in g.values()))
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-4)
    total = metrics["contrastive/loss"] + 0.5 * metrics["masked_tokens/loss"]
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-5)


class Line(nnx.Module):
    """The simplest objective: (weight - x)^2; with a teacher, a running statistic, a counter and draws."""

    needs, offers = ("x",), ()

    def __init__(self):
        self.weight = nnx.Param(jnp.float32(1.0))
        self.teacher = Carried(jnp.float32(0.0))
        self.running = Statistics(jnp.float32(0.0))
        self.steps = Carried(jnp.int32(0))
        self.losses = Carried(jnp.float32(0.0))

    def begin(self, encoder, step):
        self.teacher.set_value(self.weight[...] * 10)
        self.running.set_value(self.weight[...] * 10)
        self.steps.set_value(step)

    def views(self, batch, *, encoder, rng):
        return {}

    def loss(self, seen, views, batch, *, encoder, step, rng):
        loss = jnp.square(self.weight[...] - batch["x"]).mean() + 0 * self.teacher[...]
        self.losses.set_value(self.losses[...] + loss)
        draws = jax.vmap(jax.random.uniform)(rng)
        return loss, {"draws": draws, "teacher": self.teacher[...], "step": step}


@pytest.fixture(scope="module")
def line():
    """`run(batches, seed, ema)`: states and metrics of steps of Line under plain gradient descent."""
    optimizer = optax.sgd(0.25)

    def make():
        return Model(None, Line())

    def look(encoder, objective, batch, rng):
        return {}, {}

    def run(batches, seed=0, ema=0.0, start=None):
        step = jax.jit(make_step(abstract(make)[0], optimizer, seed=seed, ema=ema, look=look))
        state = start or initial(make, optimizer.init, ema=ema > 0)
        seen = []
        for batch in batches:
            state, metrics = step(state, {}, batch)
            seen.append((state, metrics))
        return seen

    return run


def of(*values, position=0):
    return {"x": jnp.asarray(values, jnp.float32), "position": jnp.arange(len(values), dtype=jnp.uint32) + position}


def test_the_average_follows_its_definition(line):
    """tried: the average of the parameters before their update; the decay on the wrong side."""
    decay, weight, average, running = 0.8, 1.0, 1.0, 0.0
    targets = [(3.0, 5.0), (-1.0, 1.0), (2.0, 2.0)]
    for (state, _), x in zip(line([of(*x) for x in targets], ema=decay), targets, strict=True):
        running = decay * running + (1 - decay) * 10 * weight
        weight = weight - 0.25 * 2 * (weight - np.mean(x))
        average = decay * average + (1 - decay) * weight
        np.testing.assert_allclose(flat(state.params)["objective/weight"], weight, rtol=1e-6)
        np.testing.assert_allclose(flat(state.ema)["params/objective/weight"], average, rtol=1e-6)
        np.testing.assert_allclose(flat(state.ema)["variables/objective/running"], running, rtol=1e-6)
        assert set(flat(state.ema)) == {"params/objective/weight", "variables/objective/running"}


def test_no_average_is_kept_unless_asked_for(line):
    assert line([of(1.0)])[0][0].ema is None


def test_begin_and_loss_may_write_what_is_carried_and_begin_sees_the_weights_before_the_step(line):
    """tried: no `begin`; what `loss` wrote thrown away."""
    (one, first), (two, second) = line([of(3.0), of(3.0)])
    assert first["teacher"] == 10
    assert (one.variables["objective"]["teacher"], one.variables["objective"]["steps"]) == (10, 0)
    assert (second["teacher"], two.variables["objective"]["steps"]) == (20, 1)  # the weight had become 2
    assert two.variables["objective"]["losses"] == (1 - 3) ** 2 + (2 - 3) ** 2
    assert (first["step"], second["step"], two.step) == (0, 1, 2)
    assert first["gradient_norm"] == 4


def test_draws_are_a_function_of_seed_step_and_position(line):
    """tried: keys folded from the row; the step left out."""
    (start, first), (_, second) = line([of(0, 0, 0, 0), of(0, 0, 0, 0)])
    draws = np.asarray(first["draws"])
    assert len(np.unique(draws)) == 4
    assert not np.isin(second["draws"], draws).any()
    np.testing.assert_array_equal(line([of(0, 0, position=2)])[0][1]["draws"], draws[2:])
    assert not np.isin(line([of(0, 0, 0, 0)], seed=1)[0][1]["draws"], draws).any()
    np.testing.assert_array_equal(line([of(0, 0, 0, 0)], start=start)[0][1]["draws"], second["draws"])
    far = {"x": jnp.zeros(2), "position": jnp.asarray([2**32 - 1, 2**31], jnp.uint32)}
    assert not np.isin(line([far])[0][1]["draws"], draws).any()


class Looking(Line):
    """Line with two views of the batch's images, which its loss is given beside their features."""

    def views(self, batch, *, encoder, rng):
        return {"a": View(batch["image"], taps=(1,)), "b": View(batch["image"])}

    def loss(self, seen, views, batch, *, encoder, step, rng):
        loss = jnp.square(self.weight[...] - seen["a"].pooled).mean()
        apart = jnp.abs(seen["a"].pooled - seen["b"].pooled)
        return loss, {"own": loss, "loss": 2 * loss, "taps": views["a"].taps[0], "apart": apart}


def test_a_step_looks_at_the_views_in_training_with_keys_of_the_examples(batch):
    """And reports the loss that it follows.

    tried: a metric of that name in its place; features without drop-path; keys of the first example for all.
    """

    def make():
        return Model(make_encoder(), Looking())

    optimizer = optax.sgd(0.1)
    step = jax.jit(make_step(abstract(make)[0], optimizer, seed=0))
    _, metrics = step(jax.jit(lambda: initial(make, optimizer.init, ema=False))(), {}, batch)
    assert metrics["taps"] == 1
    assert metrics["loss"] == metrics["own"] > 0
    assert (np.asarray(metrics["apart"]).max(1) > 1e-3).mean() > 0.3  # drop-path, which each view draws on its own
    rng = jax.random.split(jax.random.key(0), BATCH)

    @jax.jit
    def look(image, rng):
        return look_at_views(make_encoder(), Looking(), {"image": image}, rng)[1]["a"].pooled

    order = np.random.default_rng(0).permutation(BATCH)
    image = jnp.asarray(batch["image"])
    np.testing.assert_allclose(look(image[order], rng[order]), look(image, rng)[order], rtol=1e-5, atol=1e-5)


class Root(nnx.Module):
    """An objective whose loss is the root of a parameter: at 0 it is finite and its gradient is not."""

    def __init__(self, value):
        self.value, self.seen = nnx.Param(jnp.asarray(value)), Carried(jnp.zeros(()))

    def begin(self, encoder, step):
        self.seen.set_value(self.seen[...] + 1)

    def loss(self, seen, views, batch, *, encoder, step, rng):
        return jnp.sqrt(self.value[...]), {}


@pytest.mark.parametrize(("value", "finite"), [(4.0, True), (0.0, False), (-1.0, False)])
def test_a_step_that_is_not_finite_changes_nothing_but_the_count(value, finite):
    """Tried: a guard on the loss alone; a gradient that is not finite then changes the state."""
    optimizer = optim.adamw(learning_rate=0.1, steps=10)
    model = Model(None, Root(value))
    state = initial(lambda: model, optimizer.transform.init, ema=True)
    step = make_step(split(model)[0], optimizer.transform, seed=0, ema=0.9, look=lambda *_: ({}, {}))
    after, metrics = jax.jit(step)(state, {}, {"position": jnp.arange(2, dtype=jnp.uint32)})
    assert bool(jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])) == finite
    assert int(after.step) == 1
    same = [bool((a == b).all()) for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True)]
    assert all(same[1:]) != finite
    assert jnp.isfinite(after.params["objective"]["value"])
