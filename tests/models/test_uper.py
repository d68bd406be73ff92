"""Reference: the head from its description in NumPy, and in torch's own layers (slow, where torch is at hand).

mmsegmentation 0.18, which FaRL takes the head from, needs a CUDA extension of 2021; both references are written from
its description (1807.10221) and share no code with ours.
Planted and seen red: the levels fused in another order, parts of the pooled map that do not overlap, a lateral that is
not added to the next level, one dropout key for the whole batch.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy.signal import correlate
from scipy.special import erf

from facerep_jax.models.heads import averaged
from facerep_jax.models.uper import UPerHead, kept_channels
from facerep_jax.train.state import count, split

WIDTHS, OUTPUTS, CHANNELS = (6, 5, 4, 3), 5, 7
FLAT = (8, 8, 8, 8)


class Shape:
    """As much of an encoder as a head asks for."""

    width, stages, dtype, remat, no_matter, rules = 1, 4, "float32", "none", (), {}

    def __init__(self, widths, strides):
        self.widths, self.strides = widths, strides

    def tap_widths(self, taps):
        return self.widths

    def tap_strides(self, taps):
        return self.strides

    def grid(self, image_size):
        raise NotImplementedError

    def __call__(self, view, *, train=False, rng=None):
        raise NotImplementedError


def made(*, channels=CHANNELS, seed=0, dropout=0.0, rows=0, widths=WIDTHS, strides=FLAT):
    """A head all of whose parameters and running statistics are drawn, so that none hides a mistake."""
    head = UPerHead(
        Shape(widths, strides),
        OUTPUTS,
        taps=(0, 1, 2, 3),
        channels=channels,
        dropout=dropout,
        rows=rows,
        rngs=nnx.Rngs(seed),
    )
    rng = np.random.default_rng(seed)
    for path, variable in nnx.to_flat_state(nnx.state(head)):
        value = np.asarray(variable[...])
        if path[-1] == "kernel":
            continue
        value = (
            rng.uniform(0.5, 1.5, value.shape) if path[-1] in ("scale", "variance") else rng.normal(0, 0.5, value.shape)
        )
        variable.set_value(jnp.asarray(value, jnp.float32))
    return head


def drawn_maps(b=3, h=5, w=6, widths=WIDTHS, seed=1):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=(b, h, w, width)), jnp.float32) for width in widths)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@partial(jax.jit, static_argnums=0)
def compiled(graph, state, maps, rng):
    head = nnx.merge(graph, state)
    return head(maps, rng=rng), nnx.state(head)


def run(head, maps, rng=None):
    """What the head makes of maps; compiled, since layer by layer it takes long."""
    result, after = compiled(*nnx.split(head), maps, rng)
    nnx.update(head, after)
    return result


class Definition:
    """The head in NumPy and float64, image by image where it can be."""

    def __init__(self, head, *, train):
        self.p = jax.tree.map(lambda x: np.asarray(x, np.float64), nnx.to_pure_dict(nnx.state(head)))
        self.train = train

    def norm(self, p, x):
        mean, variance = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if self.train else (p["mean"], p["variance"])
        return (x - mean) / np.sqrt(variance + 1e-5) * p["scale"] + p["bias"]

    def conv(self, p, x):
        kernel = p["kernel"]
        y = np.zeros((*x.shape[:3], kernel.shape[-1]))
        for n, i, o in np.ndindex(len(x), *kernel.shape[2:]):
            y[n, :, :, o] += correlate(x[n, :, :, i], kernel[:, :, i, o], mode="same")
        return np.maximum(self.norm(p["norm"], y), 0)

    @staticmethod
    def double(p, x):
        y = np.repeat(np.repeat(x, 2, 1), 2, 2)
        result = np.zeros((*y.shape[:3], p["kernel"].shape[-1]))
        for r, c in np.ndindex(2, 2):
            result[:, r::2, c::2] = y[:, r::2, c::2] @ p["kernel"][r, c]
        return result + p["bias"]

    @staticmethod
    def resize(x, size):
        for axis, length in zip((1, 2), size, strict=True):
            places = (np.arange(length) + 0.5) * x.shape[axis] / length - 0.5
            x = np.apply_along_axis(lambda line, places=places: np.interp(places, np.arange(len(line)), line), axis, x)
        return x

    @staticmethod
    def pool(x, size):
        h, w = x.shape[1:3]
        result = np.zeros((len(x), size, size, x.shape[-1]))
        for i, j in np.ndindex(size, size):
            rows = slice(int(np.floor(i * h / size)), int(np.ceil((i + 1) * h / size)))
            columns = slice(int(np.floor(j * w / size)), int(np.ceil((j + 1) * w / size)))
            result[:, i, j] = x[:, rows, columns].mean((1, 2))
        return result

    def pyramid(self, p, maps):
        x = self.norm(p["norm"], self.double(p["first"], maps[0]))
        h, w = (side // 2 * 2 for side in maps[3].shape[1:3])
        corners = [maps[3][:, r:h:2, c:w:2] for r in (0, 1) for c in (0, 1)]
        first = self.double(p["again"], x * (1 + erf(x / 2**0.5)) / 2)
        return first, self.double(p["second"], maps[1]), maps[2], np.max(corners, 0)

    def __call__(self, maps):
        p, levels = self.p, [np.asarray(x, np.float64) for x in maps]
        if p.get("pyramid"):
            levels = self.pyramid(p["pyramid"], levels)
        size = [x.shape[1:3] for x in levels]
        pooled = [self.conv(p["pooled"][i], self.pool(levels[3], s)) for i, s in enumerate((1, 2, 3, 6))]
        y3 = self.conv(p["context"], np.concatenate([levels[3], *(self.resize(x, size[3]) for x in pooled)], -1))
        y2 = self.conv(p["lateral"][2], levels[2]) + self.resize(y3, size[2])
        y1 = self.conv(p["lateral"][1], levels[1]) + self.resize(y2, size[1])
        y0 = self.conv(p["lateral"][0], levels[0]) + self.resize(y1, size[0])
        y = [*(self.conv(p["level"][i], x) for i, x in enumerate((y0, y1, y2))), y3]
        fused = self.conv(p["fusion"], np.concatenate([self.resize(x, size[0]) for x in y], -1))
        return fused @ p["out"]["kernel"] + p["out"]["bias"]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("flat", [True, False])
def test_the_head_is_the_definition(train, flat, reference):
    """At 5 x 6 tokens nothing divides: neither the halved map nor the pooled parts."""
    head = made() if flat else made(strides=(4, 8, 16, 32))
    maps = drawn_maps()
    if not flat:
        maps = tuple(drawn_maps(h=h, w=h)[i] for i, h in enumerate((12, 6, 3, 2)))
    assert (head.pyramid is not None) == flat
    expected = Definition(head, train=train)(maps)
    assert expected.shape == ((3, 20, 24, OUTPUTS) if flat else (3, 12, 12, OUTPUTS))
    reference.assert_equal(run(head, maps, keys(3) if train else None), expected)


@pytest.mark.parametrize("length", [1, 3, 7, 14])
@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_pooling_is_the_definition_whether_parts_divide_the_map_or_not(length, size):
    x = np.random.default_rng(0).normal(size=(2, length, 5, 3))
    np.testing.assert_allclose(averaged(jnp.asarray(x, jnp.float32), (size, size)), Definition.pool(x, size), atol=1e-6)


def test_a_tenth_of_the_channels_is_dropped_whole_and_the_rest_made_up_for():
    kept = np.asarray(kept_channels(keys(2_000), 50, 0.1))
    assert kept.shape == (2_000, 1, 1, 50)
    np.testing.assert_allclose(np.unique(kept), [0, 1 / 0.9], rtol=1e-6)
    assert abs((kept == 0).mean() - 0.1) < 0.005
    per_example, per_channel = (kept == 0).mean((1, 2, 3)), (kept == 0).mean((0, 1, 2))
    assert per_example.std() == pytest.approx((0.1 * 0.9 / 50) ** 0.5, rel=0.1)  # independent draws
    assert per_channel.std() < 0.02


def test_dropout_goes_with_an_examples_key_and_not_its_row():
    head, maps, order = made(dropout=0.5), drawn_maps(b=4), np.array([2, 0, 3, 1])
    one = run(head, maps, keys(4))
    other = run(head, tuple(x[order] for x in maps), keys(4)[order])
    np.testing.assert_allclose(one[order], other, atol=1e-4)
    assert np.abs(one - run(head, maps, keys(4, seed=1))).max() > 0.1
    np.testing.assert_array_equal(run(head, maps), run(head, maps))


def test_a_batch_split_over_devices_has_the_statistics_of_the_whole():
    maps, rows = drawn_maps(b=8), NamedSharding(Mesh(np.array(jax.devices()), ("fsdp",)), PartitionSpec("fsdp"))
    one, many = made(), made()
    whole, parts = run(one, maps, keys(8)), run(many, jax.device_put(maps, rows), keys(8))
    assert not parts.sharding.is_fully_replicated
    np.testing.assert_allclose(whole, parts, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), split(one)[2], split(many)[2])


def test_only_training_moves_the_running_statistics():
    head = made()
    before = split(head)[2]
    run(head, drawn_maps())
    jax.tree.map(np.testing.assert_array_equal, before, split(head)[2])
    run(head, drawn_maps(), keys(3))
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, split(head)[2])
    assert all(jax.tree.leaves(moved))


def test_groups_reach_every_normalisation():
    one, two = made(), made(rows=3)
    maps = drawn_maps(b=6)
    halves = [run(one, tuple(x[rows] for x in maps), keys(3)) for rows in (slice(0, 3), slice(3, 6))]
    np.testing.assert_allclose(run(two, maps, keys(6)), np.concatenate(halves), atol=1e-4)


def test_kernels_start_at_the_scales_of_their_sources():
    head = UPerHead(Shape((64,) * 4, FLAT), 64, taps=(0, 1, 2, 3), channels=64, rngs=nnx.Rngs(0))
    deviations = {
        0.0: head.out.bias,
        (2 / (9 * 64)) ** 0.5: head.fusion.kernel,
        (2 / 64) ** 0.5: head.lateral[0].kernel,
        (1 / (3 * 64)) ** 0.5: head.out.kernel,
        (1 / (3 * 4 * 64)) ** 0.5: head.pyramid.first.kernel,
    }
    for deviation, parameter in deviations.items():
        assert float(parameter[...].std()) == pytest.approx(deviation, rel=0.05)


def parameters(widths, channels, outputs):
    """Their number, layer by layer: a kernel, and a bias or the scale and bias of a normalisation."""

    def conv(size, width):
        return size**2 * width * channels + 2 * channels

    def double(width):
        return 4 * width**2 + width

    pyramid = 2 * double(widths[0]) + 2 * widths[0] + double(widths[1])
    context = 4 * conv(1, widths[3]) + conv(3, widths[3] + 4 * channels)
    levels = sum(conv(1, width) for width in widths[:3]) + 3 * conv(3, channels)
    return pyramid + context + levels + conv(3, 4 * channels) + channels * outputs + outputs


@pytest.mark.parametrize("channels", [7, 64])
def test_the_number_of_parameters(channels):
    assert count(split(made(channels=channels))[1]) == parameters(WIDTHS, channels, OUTPUTS)


def test_errors():
    with pytest.raises(ValueError, match=r"reads 4 taps of the encoder, not 2: \(0, 1\)"):
        UPerHead(Shape(WIDTHS, FLAT), OUTPUTS, taps=(0, 1), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"one stride or of strides that double, not of \(4, 8, 16, 16\)"):
        made(strides=(4, 8, 16, 16))
    with pytest.raises(ValueError, match="dropout is a share from 0 to less than 1, not 1"):
        made(dropout=1.0)
    with pytest.raises(ValueError, match="at least 2 x 2 pixels, not 1 x 1"):
        made()(drawn_maps(h=1, w=1))


class Oracle:
    """The same head from torch's layers, with the parameters and running statistics of ours."""

    def __init__(self, torch, head):
        self.torch, self.f = torch, torch.nn.functional
        self.modules, self.gelu, self.relu = [], torch.nn.GELU(), torch.nn.ReLU()
        p = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(head)))
        pyramid = p["pyramid"]
        self.first, self.norm, self.again = (
            self.double(pyramid["first"]),
            self.bn(pyramid["norm"]),
            self.double(pyramid["again"]),
        )
        self.second, self.halve = self.double(pyramid["second"]), torch.nn.MaxPool2d(2, 2)
        self.pooled = [
            torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(size), self.conv(p["pooled"][i]))
            for i, size in enumerate((1, 2, 3, 6))
        ]
        self.context, self.fusion = self.conv(p["context"]), self.conv(p["fusion"])
        self.lateral = [self.conv(p["lateral"][i]) for i in range(3)]
        self.level = [self.conv(p["level"][i]) for i in range(3)]
        kernel = p["out"]["kernel"]
        self.out = self.loaded(
            torch.nn.Conv2d(*kernel.shape, 1), weight=kernel.T[:, :, None, None], bias=p["out"]["bias"]
        )

    def loaded(self, module, **arrays):
        state = {name: self.torch.tensor(np.ascontiguousarray(x)) for name, x in arrays.items()}
        missing = module.load_state_dict(state, strict=False)
        assert set(missing.missing_keys) <= {"num_batches_tracked"}
        assert not missing.unexpected_keys
        self.modules.append(module)
        return module

    def double(self, p):
        width_in, width_out = p["kernel"].shape[2:]
        module = self.torch.nn.ConvTranspose2d(width_in, width_out, kernel_size=2, stride=2)
        return self.loaded(module, weight=p["kernel"].transpose(2, 3, 0, 1), bias=p["bias"])

    def bn(self, p):
        module = self.torch.nn.BatchNorm2d(len(p["scale"]))
        return self.loaded(module, weight=p["scale"], bias=p["bias"], running_mean=p["mean"], running_var=p["variance"])

    def conv(self, p):
        size, _, width_in, width_out = p["kernel"].shape
        module = self.torch.nn.Conv2d(width_in, width_out, size, padding=size // 2, bias=False)
        self.loaded(module, weight=p["kernel"].transpose(3, 2, 0, 1))
        return self.torch.nn.Sequential(module, self.bn(p["norm"]), self.torch.nn.ReLU())

    def up(self, x, like):
        return self.f.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)

    def __call__(self, maps):
        """From and to NCHW."""
        levels = [
            self.again(self.gelu(self.norm(self.first(maps[0])))),
            self.second(maps[1]),
            maps[2],
            self.halve(maps[3]),
        ]
        pooled = [self.up(branch(levels[3]), levels[3]) for branch in self.pooled]
        laterals = [conv(x) for conv, x in zip(self.lateral, levels[:3], strict=True)]
        laterals.append(self.context(self.torch.cat([levels[3], *pooled], 1)))
        for i in (3, 2, 1):
            laterals[i - 1] = laterals[i - 1] + self.up(laterals[i], laterals[i - 1])
        outputs = [*(conv(x) for conv, x in zip(self.level, laterals[:3], strict=True)), laterals[3]]
        return self.out(self.fusion(self.torch.cat([self.up(x, outputs[0]) for x in outputs], 1)))

    def train(self, mode):
        for module in self.modules:
            module.train(mode)


@pytest.mark.slow
def test_torch_gives_the_same_outputs_statistics_and_gradients(reference):
    torch = pytest.importorskip("torch")
    head, maps = made(), drawn_maps()  # few activations, so that none is within rounding of ReLU's kink
    oracle = Oracle(torch, head)
    given = [torch.tensor(np.asarray(x)).permute(0, 3, 1, 2).requires_grad_() for x in maps]

    def ours(x):
        return np.asarray(x)

    def theirs(x):
        return x.detach().permute(0, 2, 3, 1).numpy()

    oracle.train(False)
    reference.assert_equal(ours(run(head, maps)), theirs(oracle(given)))
    oracle.train(True)
    found = oracle(given)
    direction = np.random.default_rng(0).normal(size=(3, 20, 24, OUTPUTS)).astype(np.float32)
    (found * torch.tensor(direction).permute(0, 3, 1, 2)).sum().backward()

    graph, params, rest = nnx.split(head, nnx.Param, ...)

    def product(params, maps):
        result = compiled(graph, nnx.merge_state(params, rest), maps, keys(3))[0]
        return (result * direction).sum(), result

    (of_params, of_maps), result = jax.grad(product, argnums=(0, 1), has_aux=True)(params, maps)
    reference.assert_equal(ours(result), theirs(found))
    for mine, other in zip(of_maps, given, strict=True):
        reference.assert_equal(ours(mine), theirs(other.grad))
    reference.assert_equal(
        ours(of_params["pyramid"]["first"]["kernel"][...]).transpose(2, 3, 0, 1), oracle.first.weight.grad.numpy()
    )
    reference.assert_equal(
        ours(of_params["fusion"]["kernel"][...]).transpose(3, 2, 0, 1), oracle.fusion[0].weight.grad.numpy()
    )
    run(head, maps, keys(3))
    for mine, other in ((head.pyramid.norm, oracle.norm), (head.pooled[0].norm, oracle.pooled[0][1][1])):
        reference.assert_equal(ours(mine.mean[...]), other.running_mean.numpy())
        reference.assert_equal(ours(mine.variance[...]), other.running_var.numpy())
    assert sum(x.numel() for m in oracle.modules for x in m.parameters()) == count(split(head)[1])


@pytest.mark.slow
def test_the_head_at_farls_width_sees_448_pixels():
    """About 0.75 TFLOP: 28 x 28 tokens of 768 to 112 x 112 classes of LaPa."""
    widths = (768,) * 4
    head = UPerHead(Shape(widths, FLAT), 11, taps=(3, 5, 7, 11), rngs=nnx.Rngs(0))
    assert count(split(head)[1]) == parameters(widths, 768, 11) == 74_938_379
    logits = run(head, drawn_maps(b=1, h=28, w=28, widths=widths))
    assert logits.shape == (1, 112, 112, 11)
    assert np.isfinite(logits).all()
    assert float(logits.std()) > 0
