"""Losses of pairs against NumPy, and the ring against all pairs at once.

Planted and seen red: texts that stay where they are, diagonals of other devices' texts taken for pairs, a last hop that
is left out, gradients of texts that are not added up, a mean over a device's rows in place of their sum, and a backward
pass that forgets what the loss is multiplied by.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax.models import pairs
from facerep_jax.train import sharding
from facerep_jax.train.collectives import collective_bytes

B, E, SCALE, BIAS = 32, 16, 12.0, -3.0
MESHES = {1: {}, 2: dict(fsdp=2), 4: dict(replica=2, fsdp=2), 8: dict(replica=2, fsdp=4)}
LOSSES = dict(softmax=(pairs.softmax_gather, pairs.softmax_ring), sigmoid=(pairs.sigmoid_gather, pairs.sigmoid_ring))


@pytest.fixture(scope="module")
def data():
    """Images, and texts that are like them, of length one; some images are closer to the text of another."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(B, E))
    texts = images + rng.normal(size=(B, E))
    return tuple((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (images, texts))


def numbers(kind):
    return tuple(map(jnp.float32, (SCALE, BIAS)[: 1 + (kind == "sigmoid")]))


def both(loss, kind):
    """((loss, hits), gradients of everything)."""
    return jax.jit(jax.value_and_grad(loss, argnums=tuple(range(2 + len(numbers(kind)))), has_aux=True))


def numpy_softmax(images, texts, scale):
    """Each image and each text classified among all of the other kind, one at a time."""
    logits = scale * np.float64(images) @ np.float64(texts).T
    return np.mean([np.log(np.exp(each - each[i]).sum()) for kind in (logits, logits.T) for i, each in enumerate(kind)])


def numpy_sigmoid(images, texts, scale, bias):
    """Each pair a decision, one at a time."""
    total = 0.0
    for i, image in enumerate(np.float64(images)):
        for j, text in enumerate(np.float64(texts)):
            probability = 1 / (1 + np.exp(-(scale * image @ text + bias)))
            total -= np.log(probability if i == j else 1 - probability)
    return total / len(images)


DEFINED = dict(softmax=numpy_softmax, sigmoid=numpy_sigmoid)


@pytest.fixture(scope="module")
def dense(data):
    return {kind: both(LOSSES[kind][0], kind)(*data, *numbers(kind)) for kind in LOSSES}


@pytest.mark.parametrize("kind", LOSSES)
def test_the_loss_is_that_of_its_definition(kind, data, dense):
    (loss, hits), gradients = dense[kind]
    settings = [float(x) for x in numbers(kind)]
    np.testing.assert_allclose(loss, DEFINED[kind](*data, *settings), rtol=1e-5)
    expected = (data[0] @ data[1].T).argmax(1) == np.arange(B)
    assert 0 < expected.sum() < B
    np.testing.assert_array_equal(hits, expected)
    for index, gradient in enumerate(gradients[2:]):
        moved = [[*settings[:index], settings[index] + by, *settings[index + 1 :]] for by in (1e-4, -1e-4)]
        slope = np.subtract(*(DEFINED[kind](*data, *each) for each in moved)) / 2e-4
        np.testing.assert_allclose(gradient, slope, rtol=1e-4)


def test_the_sigmoid_is_that_of_open_clip(dense):
    """Frozen from SigLipLoss of open_clip 3.3.0 on these embeddings, in float64, with its gradients."""
    (loss, _), (_, _, of_scale, of_bias) = dense["sigmoid"]
    found = [float(x) for x in (loss, of_scale, of_bias)]
    np.testing.assert_allclose(found, [12.592862053087902, 1.9871656446876753, 6.558134269810102], rtol=1e-5)


def on_mesh(devices, function):
    """`function(mesh, sharding of the batch)` under a mesh of so many devices."""
    mesh = sharding.make_mesh(MESHES[devices], jax.devices()[:devices])
    with jax.set_mesh(mesh):
        return function(sharding.batch_sharding(mesh))


@pytest.mark.parametrize("devices", MESHES)
@pytest.mark.parametrize("kind", LOSSES)
def test_the_ring_is_all_pairs_at_once(kind, devices, data, dense):
    """In float32 to 1e-5 in relative norm: the loss, and the gradients of images, texts, temperature and bias."""
    (expected, hits), gradients = dense[kind]

    def run(batches):
        return both(LOSSES[kind][1], kind)(*jax.device_put(data, batches), *numbers(kind))

    (loss, found), more = on_mesh(devices, run)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_array_equal(found, hits)
    for one, other in zip(gradients, more, strict=True):
        assert np.linalg.norm(np.asarray(other) - one) <= 1e-5 * np.linalg.norm(one)


@pytest.mark.parametrize("kind", LOSSES)
def test_without_a_mesh_the_ring_is_one_square(kind, data, dense):
    (loss, _), gradients = both(LOSSES[kind][1], kind)(*data, *numbers(kind))
    np.testing.assert_allclose(loss, dense[kind][0][0], rtol=1e-6)
    for one, other in zip(dense[kind][1], gradients, strict=True):
        assert np.linalg.norm(np.asarray(other) - one) <= 1e-5 * np.linalg.norm(one)


def test_the_slope_of_a_loss_that_is_scaled_is_scaled(data, dense):
    def run(batches):
        given = (*jax.device_put(data, batches), *numbers("softmax"))
        return jax.jit(jax.grad(lambda *given: 3 * pairs.softmax_ring(*given)[0]))(*given)

    np.testing.assert_allclose(on_mesh(4, run), 3 * dense["softmax"][1][0], rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def compiled():
    """`compiled(loss, kind, devices)`: the program of loss and gradients with 64 examples on each device."""

    def compiled(loss, kind, devices):
        def run(batches):
            rows = jax.ShapeDtypeStruct((64 * devices, 128), jnp.float32, sharding=batches)
            return both(loss, kind).lower(rows, rows, *numbers(kind)).compile()

        return on_mesh(devices, run)

    return compiled


@pytest.mark.parametrize("kind", LOSSES)
def test_the_rings_memory_depends_on_the_local_batch_alone_and_it_gathers_nothing(kind, compiled):
    """With all pairs at once memory grows and embeddings are gathered: else this test would show nothing."""
    gather, ring = LOSSES[kind]
    programs = {devices: compiled(ring, kind, devices) for devices in (2, 8)}
    few, many = (program.memory_analysis().temp_size_in_bytes for program in programs.values())
    assert many <= 1.05 * few
    sent = collective_bytes(programs[8].as_text())
    rows = 64 * 128 * 4
    assert not {"all-gather", "all-to-all", "reduce-scatter"} & set(sent)
    assert 3 * 8 * rows <= sent["collective-permute"] <= 3.2 * 8 * rows  # texts twice, and their gradients once around
    assert sent["all-reduce"] < 100  # the loss, and the gradients of numbers
    at_once = compiled(gather, kind, 8)
    assert at_once.memory_analysis().temp_size_in_bytes > 2 * many
    assert collective_bytes(at_once.as_text())["all-gather"] >= 8 * rows
