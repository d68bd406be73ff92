"""Planted and seen red: padding kept, a row lost, maps in reverse, features in memory before they are written."""

import os
import re
import resource
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.data.arrays import Lazy
from facerep_jax.evaluation import cache
from facerep_jax.evaluation.cache import extractor, features_of, given, require_space, rounded
from facerep_jax.models.vit import ViT
from facerep_jax.typing import Features, View

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), np.uint8)


class Wide(nnx.Module):
    """An encoder whose map is 128 KB for each image, and the red of its first pixel."""

    width, stages, dtype, remat, no_matter, rules = 64, 1, "float32", "none", (), {}

    def tap_widths(self, taps):
        return (64,) * len(taps)

    def tap_strides(self, taps):
        return (1,) * len(taps)

    def grid(self, image_size):
        return 32, 32

    def __call__(self, view, *, train=False, rng=None):
        x = jnp.broadcast_to(view.image[:, :1, :1, :1] / 255, (len(view.image), 32, 32, 64))
        return Features(pooled=x[:, 0, 0], tokens=x[:, 0], maps={0: x})


@pytest.fixture(scope="module")
def encoder():
    sizes = dict(variant="Nano/8", image_size=16, width=32, depth=2, heads=2)
    return ViT(**sizes, dtype="float32", remat="none", rngs=nnx.Rngs(0))


@pytest.fixture
def parts_of_four(monkeypatch):
    monkeypatch.setattr(cache, "ROWS", 4)  # so that the last part of ten is filled up


def test_features_are_the_encoders_own_up_to_half_precision(encoder, parts_of_four):
    cached = extractor(encoder, (0, 1))(IMAGES)
    seen = encoder(View(jnp.asarray(IMAGES), taps=(0, 1)))
    assert cached["map1"].dtype == jnp.bfloat16
    for name, expected in (("pooled", seen.pooled), ("map0", seen.maps[0]), ("map1", seen.maps[1])):
        assert len(cached[name]) == 10
        np.testing.assert_allclose(np.asarray(cached[name], np.float32), expected, rtol=2**-8, atol=1e-6)


def test_on_disk_they_are_the_same_and_have_no_name(encoder, parts_of_four, tmp_path):
    extract = extractor(encoder, (0, 1))
    mapped, kept = extract(IMAGES, tmp_path), extract(IMAGES)
    assert not list(tmp_path.iterdir())  # nothing to remove, whatever happens to this process
    assert mapped.keys() == kept.keys()
    for name, x in kept.items():
        assert isinstance(mapped[name], Lazy)
        np.testing.assert_array_equal(mapped[name], x)
    assert extract.size(IMAGES) == sum(x.nbytes for x in kept.values())
    again = given({"landmarks": np.zeros(3), **{name: x[:] for name, x in mapped.items()}})["image"]
    np.testing.assert_array_equal(again.maps[1], np.asarray(kept["map1"], np.float32))


def test_a_large_cache_does_not_fill_memory(tmp_path):
    def private_bytes():
        status = Path("/proc/self/status")
        if not status.exists():
            pytest.skip("only Linux tells")
        return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status.read_text())[1])

    images = np.zeros((3000, 4, 4, 3), np.uint8)
    images[:] = (np.arange(3000) % 256).reshape(-1, 1, 1, 1)
    extract = extractor(Wide(), (0,))
    extract(images[:128])  # compiled
    before = private_bytes()
    mapped = extract(images, tmp_path)
    assert extract.size(images) > 390e6
    assert private_bytes() - before < 150e6
    np.testing.assert_allclose(np.float32(mapped["map0"][[7, 2999]][:, 3, 3, 3]), [7 / 255, 183 / 255], rtol=2**-8)


def test_rounding_is_that_of_the_cache(encoder):
    values = jax.random.normal(jax.random.key(0), (4, 2, 2, 32)) * 100
    features = Features(pooled=values[:, 0, 0], tokens=values[:, 0], maps={3: values})
    got = jax.jit(rounded)(features)
    np.testing.assert_array_equal(got.maps[3], np.asarray(values.astype(jnp.bfloat16), np.float32))
    np.testing.assert_array_equal(got.pooled, np.asarray(values[:, 0, 0].astype(jnp.bfloat16), np.float32))
    for what in ("tokens", "cls"):
        with pytest.raises(ValueError, match=r"not kept: .*choose a protocol that sees images, such as frozen"):
            getattr(got, what)


def test_features_are_told_from_labels():
    batch = {name: np.zeros(1) for name in ("pooled", "map0", "map11", "mask", "mapping", "landmarks")}
    assert set(features_of(batch)) == {"pooled", "map0", "map11"}


def test_a_folder_that_takes_nothing_is_named(encoder, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(ValueError, match=rf"cannot keep features in {folder}: .*cache_gigabytes=0"):
            extractor(encoder, (0,))(IMAGES, folder)
    with pytest.raises(ValueError, match=r"need 1000000000.0 GB and .* GB left; choose --config.protocol.cache_folder"):
        require_space(tmp_path, 10**18)
    with pytest.raises(ValueError, match="cannot keep features in"):
        require_space(tmp_path / "nowhere", 1)


def test_a_write_that_fails_is_an_error_and_leaves_nothing(encoder, tmp_path):
    extract = extractor(encoder, (0, 1))
    extract(IMAGES)  # compiled, which writes too
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(ValueError, match="File too large"):
            extract(IMAGES, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == []
