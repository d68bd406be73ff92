"""SwAV against NumPy from its definition, and what is to be right of a port.

Planted and seen red: a pass for each crop; prototypes that are trained from the first step; sums over some of the rows
in place of all; a queue that is used before it is full; the batch among its own queue; small crops that have codes; the
mean of V in place of V - 1 crops.
"""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from facerep_jax.config import spec
from facerep_jax.objectives.swav import SwAV, sinkhorn
from facerep_jax.train.larc import larc, warmup_cosine
from facerep_jax.train.sharding import make_mesh
from facerep_jax.train.state import Model, abstract, initial, merge, split
from facerep_jax.train.step import look_at_views, make_step
from tests import processes
from tests.contracts.whole_way import (
    LABELLED,
    assert_kill_and_resume_change_nothing,
    assert_one_device_comes_to_the_same,
    pretrain,
    probe,
)
from tests.train.tiny import TinyEncoder

CONFIG, QUEUE = "configs/pretrain/swav.py:smoke", "configs/pretrain/swav_queue.py:smoke"
FOUR = "--config.steps=4"
B, K = 8, 6


def make(**settings):
    encoder = TinyEncoder(dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
    sizes = dict(large=2, small=3, prototypes=K, hidden=5, width=4)
    return Model(encoder, SwAV(encoder, **{**sizes, **settings}, rngs=nnx.Rngs(params=1)))


def images(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"image": (B, 8, 8, 3), "image_large": (B, 1, 8, 8, 3), "image_small": (B, 3, 4, 4, 3)}
    colour = rng.integers(0, 200, (B, 1, 1, 1, 3))  # of each example
    noise = {name: rng.integers(0, 56, shape) for name, shape in shapes.items()}
    batch = {name: (x + (colour if x.ndim == 5 else colour[:, 0])).astype(np.uint8) for name, x in noise.items()}
    return {**batch, "position": np.arange(B, dtype=np.uint32)}


def codes_of(scores, there=None, *, epsilon=0.05, rounds=3):
    there = np.ones(len(scores), bool) if there is None else there
    return np.asarray(sinkhorn(jnp.asarray(scores, jnp.float32), jnp.asarray(there), epsilon=epsilon, rounds=rounds))


def published(scores, epsilon=0.05, rounds=3):
    """Equation 3 and appendix A, one line for each: Q is prototypes x examples."""
    q = np.exp(scores / epsilon).T
    q /= q.sum()
    k, n = q.shape
    for _ in range(rounds):
        q = q / q.sum(1, keepdims=True) / k
        q = q / q.sum(0, keepdims=True) / n
    return (q * n).T


def published_before(scores, epsilon=0.05, rounds=3):
    """As the code was until April 2021, and as FRL has it: rows by the target mass over theirs."""
    q = np.exp(scores / epsilon).T
    q /= q.sum()
    k, n = q.shape
    for _ in range(rounds):
        q *= (np.ones(k) / k / q.sum(1))[:, None]
        q *= (np.ones(n) / n / q.sum(0))[None]
    return (q / q.sum(0, keepdims=True)).T


@pytest.fixture(scope="module")
def scores():
    return np.random.default_rng(0).uniform(-1, 1, (40, K))


def test_codes_are_those_of_both_published_iterations(scores):
    """Oracle 7; and 3: a constant that is added to all scores changes nothing."""
    np.testing.assert_allclose(published(scores), published_before(scores), rtol=1e-12)
    np.testing.assert_allclose(codes_of(scores), published(scores), atol=1e-5)
    np.testing.assert_allclose(codes_of(scores + 7), codes_of(scores), atol=1e-4)
    tiny = codes_of(scores, epsilon=0.005)  # where exp(1 / 0.005) is beyond float32
    np.testing.assert_allclose(tiny, published(scores - 1, epsilon=0.005), atol=1e-3)


def test_rows_sum_to_one_and_columns_do_alike_after_many_rounds(scores):
    """Oracles 1 and 2."""
    columns = []
    for rounds in (1, 3, 300):
        codes = codes_of(scores, rounds=rounds)
        np.testing.assert_allclose(codes.sum(1), 1, atol=1e-5)
        columns.append(np.abs(codes.sum(0) - len(scores) / K).max())
    assert columns[0] > columns[1] > columns[2]
    assert columns[2] < 1e-2


def test_codes_go_with_their_rows_and_columns(scores):
    """Oracle 4."""
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(len(scores)), rng.permutation(K)
    np.testing.assert_allclose(codes_of(scores[rows][:, columns]), codes_of(scores)[rows][:, columns], atol=1e-6)


def test_equal_scores_give_uniform_codes_and_the_loss_of_chance():
    """Oracle 6. Features of zeros give vectors of zeros, whose scores are 0."""
    np.testing.assert_allclose(codes_of(np.zeros((9, K))), 1 / K, atol=1e-6)
    model = make()
    last = model.objective.projector.linear[-1]
    last.kernel.set_value(jnp.zeros_like(last.kernel[...]))
    last.bias.set_value(jnp.zeros_like(last.bias[...]))
    loss, metrics = run_loss(model, images())
    assert float(loss) == pytest.approx(np.log(K), abs=1e-6)
    assert float(metrics["chance"]) == pytest.approx(np.log(K), abs=1e-6)
    assert float(metrics["prototypes_used"]) == pytest.approx(K, rel=1e-5)
    assert float(metrics["spread"]) == 0


def test_eight_devices_give_the_codes_of_one(scores):
    """Oracle 5."""
    mesh = make_mesh({"fsdp": -1})
    rows = NamedSharding(mesh, PartitionSpec("fsdp"))
    assert mesh.shape["fsdp"] == 8
    there = np.arange(len(scores)) % 5 > 0
    sharded = [jax.device_put(jnp.asarray(x), rows) for x in (scores.astype(np.float32), there)]
    found = jax.jit(lambda s, t: sinkhorn(s, t, epsilon=0.05, rounds=3), out_shardings=rows)(*sharded)
    np.testing.assert_allclose(np.asarray(found)[there], codes_of(scores, there)[there], atol=1e-6)
    alone = codes_of(scores[:5])  # as if each device knew its own examples only
    assert np.abs(np.asarray(found)[:5] - alone)[there[:5]].max() > 1e-2


def run_loss(model, batch, step=0, *, begun=False):
    keys = jax.random.split(jax.random.key(0), B)
    batch = jax.tree.map(jnp.asarray, batch)
    if not begun:
        model.objective.begin(model.encoder, jnp.int32(step))
    views, seen = look_at_views(model.encoder, model.objective, batch, keys)
    return model.objective.loss(seen, views, batch, encoder=model.encoder, step=jnp.int32(step), rng=keys)


def numpy_vectors(model, seen):
    """Vectors of each crop, and the projector's hidden values, from all rows at once."""
    objective = model.objective
    x = np.concatenate([np.asarray(seen[name].pooled, np.float64) for name in objective.crops])
    first, last = ({k: np.asarray(v, np.float64) for k, v in (("w", m.kernel[...]), ("b", m.bias[...]))}
                   for m in objective.projector.linear)  # fmt: skip
    hidden = x @ first["w"] + first["b"]
    y = np.maximum((hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5), 0) @ last["w"] + last["b"]
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    return np.split(y, len(objective.crops)), hidden


def log_softmax(x):
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def test_the_loss_is_that_of_its_definition():
    """Section 3.1: codes of two large crops, each predicted from the four other crops; and oracle 11's projector."""
    model, batch = make(), images()
    loss, _ = run_loss(model, batch)
    keys = jax.random.split(jax.random.key(0), B)
    _, seen = look_at_views(model.encoder, model.objective, jax.tree.map(jnp.asarray, batch), keys)
    vectors, hidden = numpy_vectors(model, seen)
    prototypes = np.asarray(model.objective.prototypes[...], np.float64)
    np.testing.assert_allclose(np.linalg.norm(prototypes, axis=1), 1, rtol=1e-6)
    total = 0.0
    for i in (0, 1):
        codes = published(vectors[i] @ prototypes.T)
        others = [v for v in range(5) if v != i]
        total += sum(-(codes * log_softmax(vectors[v] @ prototypes.T / 0.1)).sum(1).mean() for v in others) / 4 / 2
    assert float(loss) == pytest.approx(total, rel=1e-4)
    assert len(hidden) == 5 * B
    running = model.objective.projector.norms[0].mean[...]
    np.testing.assert_allclose(running, 0.1 * hidden.mean(0), rtol=1e-4, atol=1e-6)


def test_the_gradient_is_that_of_predictions_alone():
    """Of the prototypes: codes are constants in it, and so is what `begin` does to them."""
    batch = images()
    graph, params, variables, frozen = split(make())

    def loss(prototypes):
        inside = {**params, "objective": {**params["objective"], "prototypes": prototypes}}
        return run_loss(merge(graph, inside, variables, frozen), batch, begun=True)[0]

    model = make()
    run_loss(model, batch)
    prototypes = np.asarray(model.objective.prototypes[...], np.float64)
    keys = jax.random.split(jax.random.key(0), B)
    _, seen = look_at_views(model.encoder, model.objective, jax.tree.map(jnp.asarray, batch), keys)
    vectors, _ = numpy_vectors(model, seen)
    expected = np.zeros_like(prototypes)
    for i in (0, 1):
        codes = published(vectors[i] @ prototypes.T)
        for v in range(5):
            if v != i:
                p = np.exp(log_softmax(vectors[v] @ prototypes.T / 0.1))
                expected += (p - codes).T @ vectors[v] / 0.1 / B / 4 / 2
    found = jax.grad(loss)(jnp.asarray(prototypes, jnp.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_crops_of_a_size_take_one_pass_whose_statistics_are_over_all_of_them():
    """Oracle 11: the running mean moves once for each size, by all rows of that size, the large ones first."""
    model, batch = make(), images()
    passes = []

    class Counted(TinyEncoder):
        def __call__(self, view, **keywords):
            passes.append(np.asarray(view.image.astype(jnp.float32).mean((1, 2)) / 255 @ self.kernel[...]))
            return super().__call__(view, **keywords)

    model.encoder.__class__ = Counted
    run_loss(model, batch)
    assert [len(x) for x in passes] == [2 * B, 3 * B]
    expected = np.zeros(4)
    for rows in passes:
        expected = 0.9 * expected + 0.1 * rows.mean(0)
    np.testing.assert_allclose(model.encoder.norm.mean[...], expected, rtol=1e-4, atol=1e-6)


def test_the_queue_is_used_when_it_is_full_and_holds_what_came_before():
    """Oracle 9: a queue of two batches, from step 1 on; the batch is not its own neighbour."""
    model, plain = make(queue=2 * B, queue_steps=1), make()
    prototypes = None
    for step in range(5):
        batch = images(step)
        before = np.asarray(model.objective.queue[...])
        loss, _ = run_loss(model, batch, step)
        without, _ = run_loss(plain, batch, step)
        keys = jax.random.split(jax.random.key(0), B)
        _, seen = look_at_views(model.encoder, model.objective, jax.tree.map(jnp.asarray, batch), keys)
        vectors, _ = numpy_vectors(model, seen)
        prototypes = np.asarray(model.objective.prototypes[...], np.float64)
        after = np.asarray(model.objective.queue[...])
        if step < 1:
            assert not after.any()
        else:
            np.testing.assert_allclose(after[:, :B], np.stack(vectors[:2]), atol=1e-4)
            np.testing.assert_array_equal(after[:, B:], before[:, :B])
        full = step >= 3  # filled in steps 1 and 2
        assert before.any(-1).all() == full
        assert (abs(float(loss - without)) > 1e-4) == full
    expected = published(np.concatenate([vectors[0], before[0]]) @ prototypes.T)[:B]
    found = model.objective.codes.__func__(SimpleNamespace(
        prototypes=model.objective.prototypes, queue=nnx.Variable(jnp.asarray(before)), queue_steps=1, epsilon=0.05,
        rounds=3), 0, jnp.asarray(vectors[0], jnp.float32), jnp.int32(4))  # fmt: skip
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_prototypes_and_their_momentum_stand_still_while_they_are_frozen():
    """Oracle 8: but for their length, which is made one before each step."""
    schedule = spec(warmup_cosine, first=0.3, last=0.01)
    optimizer = larc(learning_rate=0.5, schedule=schedule, freeze=(("prototypes$", 2),), weight_decay=0.1, steps=4)
    state = initial(make, optimizer.transform.init, ema=False)
    step = jax.jit(make_step(abstract(make)[0], optimizer.transform, seed=0))
    start = np.asarray(make().objective.prototypes[...])
    start = start / np.linalg.norm(start, axis=1, keepdims=True)
    kept = []
    for _ in range(4):
        state, _ = step(state, {}, jax.tree.map(jnp.asarray, images()))
        (trace,) = [x for x in jax.tree.leaves(state.opt_state.inner) if x.shape == (K, 4)]
        kept.append((np.asarray(state.params["objective"]["prototypes"]), np.asarray(trace)))
    np.testing.assert_allclose(kept[0][0], start, rtol=1e-6)
    np.testing.assert_allclose(kept[1][0], kept[0][0], rtol=1e-6)
    assert not kept[0][1].any()
    assert not kept[1][1].any()
    assert kept[2][1].any()
    assert np.abs(kept[2][0] - kept[1][0]).max() > 1e-6


def test_it_learns_to_tell_examples_apart():
    optimizer = larc(learning_rate=20.0, schedule=spec(warmup_cosine, first=20.0, last=1.0), steps=150)
    state = initial(make, optimizer.transform.init, ema=False)
    step, batch = (
        jax.jit(make_step(abstract(make)[0], optimizer.transform, seed=0)),
        jax.tree.map(jnp.asarray, images()),
    )
    for _ in range(150):
        state, metrics = step(state, {}, batch)
    assert float(metrics["loss"]) < 0.7 * np.log(K)


def test_what_does_not_fit_is_named_with_what_helps():
    for settings, message in (
        (
            dict(prototypes=20),
            r"a batch of 8 examples cannot use 20 prototypes .* objective\.queue to at least 16, .* 8,",
        ),
        (dict(prototypes=20, queue=8), "and a queue of 8 cannot use 20 prototypes"),
        (dict(queue=12), "queue of 12 vectors is no multiple of the batch of 8"),
    ):
        with pytest.raises(ValueError, match=message):
            run_loss(make(**settings), images())
    with pytest.raises(ValueError, match="needs a large crop and another one, not 1 large and 0 small"):
        make(large=1, small=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pretrain(QUEUE, tmp_path_factory.mktemp("swav"), FOUR)


@pytest.mark.slow
def test_killed_and_resumed_it_is_bit_equal_queue_included(run, tmp_path):
    assert np.abs(processes.saved(run, 4)["variables/objective/queue"]).max() > 0
    assert_kill_and_resume_change_nothing(QUEUE, run, tmp_path, FOUR)


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIG, QUEUE])
def test_a_run_on_eight_devices_equals_one_on_one(config, tmp_path):
    eight = pretrain(config, tmp_path / "eight")
    assert_one_device_comes_to_the_same(config, eight, tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("arg", ["small,protocol=ridge", "small,head=farl,protocol=finetune,steps=6"])
def test_its_residual_network_is_evaluated_on_landmarks(run, tmp_path, arg):
    results = probe(run, tmp_path, arg=arg)
    assert results["encoder"]["name"].startswith("ResNet")


@pytest.mark.slow
@pytest.mark.parametrize("arg", ["small,protocol=ridge", "small,head=farl,protocol=frozen,steps=6"])
def test_its_residual_network_is_evaluated_on_parsing(run, tmp_path, arg):
    flags = (f"--config.data.dataset={LABELLED}", f"--checkpoint={run}", "--config.seeds=(0,)", "--config.baselines=()")
    where = f"--config=configs/evaluate/parsing.py:{arg}"
    status, said = processes.here("evaluate", tmp_path, where, *flags, "--config.fraction=1.0", "--config.devices=1")
    assert status == 0, said
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["encoder"]["name"].startswith("ResNet")
