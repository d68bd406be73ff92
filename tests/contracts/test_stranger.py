"""A file of somebody else's layout is judged by `--checkpoint FILE`, and is the start of a pre-training.

Planted and seen red: query and key swapped; kernels not transposed.
"""

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from scipy.special import erf

from facerep_jax.models.vit import ViT
from facerep_jax.train.handover import encoder
from facerep_jax.train.model import arrays_of
from facerep_jax.typing import View
from tests import processes
from tests.contracts import stranger
from tests.contracts.whole_way import (
    assert_kill_and_resume_change_nothing,
    assert_one_device_comes_to_the_same,
    pretrain,
    probe,
)

LAYOUT = "tests.contracts.stranger"
CONFIG = "tests/contracts/configs/mcf_like.py"
WIDTH, DEPTH, HEADS, PATCH, SIZE = 32, 4, 4, 8, 32


def theirs(seed=0):
    """A file's arrays, drawn from the description of the layout."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(0, 0.2, shape).astype(np.float32)

    arrays = {
        "tower.image_size": np.array(SIZE),
        "tower.patch": draw(WIDTH, 3, PATCH, PATCH),
        "tower.patch_bias": draw(WIDTH),
        "tower.cls": draw(WIDTH),
        "tower.norm.weight": 1 + draw(WIDTH),
        "tower.norm.bias": draw(WIDTH),
    }
    shapes = dict(qkv=(3 * WIDTH, WIDTH), proj=(WIDTH, WIDTH), fc1=(4 * WIDTH, WIDTH), fc2=(WIDTH, 4 * WIDTH))
    for index in range(DEPTH):
        block = f"tower.blocks.{index}"
        for name, shape in shapes.items():
            arrays |= {f"{block}.{name}.weight": draw(*shape), f"{block}.{name}.bias": draw(shape[0])}
        for name in ("norm1", "norm2"):
            arrays |= {f"{block}.{name}.weight": 1 + draw(WIDTH), f"{block}.{name}.bias": draw(WIDTH)}
    return arrays


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("theirs") / "weights.safetensors"
    safetensors.numpy.save_file(theirs(), path)
    return path


def started_from(file):
    """Flags of a pre-training that starts from a file of theirs."""
    return f"--config.init={file}@{LAYOUT}", "--config.encoder.flavour=mae", f"--config.encoder.heads={HEADS}"


def test_a_token_is_what_their_network_makes_of_it(file, reference):
    """The first block by NumPy, from their arrays."""
    handed = encoder(f"{file}@{LAYOUT}")
    image = np.random.default_rng(1).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    features = handed.encoder(View(jnp.asarray(image), taps=(0,)))
    arrays = {name: np.asarray(x, np.float64) for name, x in theirs().items()}

    normalised = np.asarray(handed.encoder.normalise(jnp.asarray(image)), np.float64)[0]
    side = SIZE // PATCH
    patches = normalised.reshape(side, PATCH, side, PATCH, 3).transpose(0, 2, 4, 1, 3).reshape(side * side, -1)
    x = patches @ arrays["tower.patch"].reshape(WIDTH, -1).T + arrays["tower.patch_bias"]
    x = np.concatenate([arrays["tower.cls"][None], x]) + np.asarray(handed.encoder.positions_for(side, side))

    def norm(x, name):
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return scaled * arrays[f"tower.blocks.0.{name}.weight"] + arrays[f"tower.blocks.0.{name}.bias"]

    def linear(x, name):
        return x @ arrays[f"tower.blocks.0.{name}.weight"].T + arrays[f"tower.blocks.0.{name}.bias"]

    q, k, v = np.split(linear(norm(x, "norm1"), "qkv"), 3, axis=-1)
    attended = np.zeros_like(x)
    for part in np.split(np.arange(WIDTH), HEADS):
        scores = np.exp(q[:, part] @ k[:, part].T / np.sqrt(len(part)))
        attended[:, part] = scores / scores.sum(-1, keepdims=True) @ v[:, part]
    x = x + linear(attended, "proj")
    hidden = linear(norm(x, "norm2"), "fc1")
    x = x + linear(hidden * (1 + erf(hidden / np.sqrt(2))) / 2, "fc2")
    reference.assert_equal(np.asarray(features.maps[0]).reshape(-1, WIDTH), x[1:])


def test_it_is_judged_by_its_file(file, tmp_path):
    results = probe(f"{file}@{LAYOUT}", tmp_path, "--config.data.size=32")
    assert results["checkpoint"]["path"] == str(file)
    assert results["checkpoint"]["weights"] == "stranger"


def test_a_pretraining_starts_from_it(file, tmp_path):
    """The state that is saved after no step would be it: one step of rate 0 leaves it as it is. It is read once."""
    still = ("--config.optimizer.schedule.first=0.0", "--config.optimizer.schedule.last=0.0")
    once = ("--config.steps=1", "--config.optimizer.learning_rate=0.0")
    status, said = processes.here("pretrain", tmp_path, f"--config={CONFIG}", *started_from(file), *once, *still)
    assert status == 0, said
    assert said.count("arrays read as") == 1
    saved = processes.saved(tmp_path, 1)
    for path, array in stranger.imported(theirs()).items():
        np.testing.assert_array_equal(saved[f"params/encoder/{path}"], array, err_msg=path)
        np.testing.assert_allclose(saved[f"variables/objective/terms/contrast/teacher/{path}"], array, rtol=1e-5)


@pytest.mark.slow
def test_a_pretraining_that_starts_from_it_learns_and_is_the_same_killed_or_on_one_device(file, tmp_path):
    flags = started_from(file)
    run = pretrain(CONFIG, tmp_path / "run", *flags)
    saved, start = processes.saved(run, 2), stranger.imported(theirs())
    moved = [np.abs(saved[f"params/encoder/{path}"] - array).max() for path, array in start.items()]
    assert 0 < max(moved) < 0.01
    assert_kill_and_resume_change_nothing(CONFIG, run, tmp_path / "killed", *flags)
    assert_one_device_comes_to_the_same(CONFIG, run, tmp_path / "one", *flags)


def test_a_start_of_another_architecture_is_refused_and_nothing_is_written(file, tmp_path):
    status, said = processes.here("pretrain", tmp_path / "run", f"--config={CONFIG}", f"--config.init={file}@{LAYOUT}")
    assert status == 2
    assert "is of another architecture: " in said
    assert not (tmp_path / "run").exists()


def test_another_layout_is_named(file):
    with pytest.raises(ValueError, match=r"the layout of the weights is not known .*give FILE@LAYOUT"):
        encoder(str(file))
    with pytest.raises(ValueError, match="no layout 'dale' of weights; did you mean 'dalle'"):
        encoder(f"{file}@dale")


def test_all_arrays_are_taken(file):
    sizes = dict(flavour="mae", variant=f"Nano/{PATCH}", image_size=SIZE, width=WIDTH, depth=DEPTH, heads=HEADS)
    ours = nnx.eval_shape(lambda: ViT(**sizes, dtype="float32", remat="none", rngs=nnx.Rngs(params=0)))
    assert set(stranger.imported(theirs())) == set(arrays_of(ours))
