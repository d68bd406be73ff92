"""Features and predictions of small networks, against an evaluation's way to them."""

import numpy as np
import pytest
from PIL import Image

import facerep_jax
from facerep_jax.evaluation.cache import HALF, extractor
from facerep_jax.inference import faces
from facerep_jax.inference.loading import WHOLE, Loaded, box_crop
from facerep_jax.inference.model import Model, Seen, Skipped
from tests.evaluation.problems import SIZE, make_encoder

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (11, SIZE, SIZE, 3), np.uint8)
ENCODER = make_encoder()


def loaded(task=None, rounds=False, crop=""):
    return Loaded("here", ENCODER, task, rounds, {}, SIZE, "digest", (box_crop(0.25),), crop)


@pytest.fixture(scope="module")
def model():
    return Model(loaded(), devices=1)


@pytest.fixture(scope="module")
def embedded(model):
    return model.embed(PIXELS)


def test_features_are_those_of_an_evaluation(embedded):
    """Which keeps them in half precision."""
    expected = extractor(ENCODER, ())(PIXELS)["pooled"].astype(np.float32)
    assert embedded.shape == (11, 32)
    assert embedded.dtype == np.float32
    assert np.ptp(embedded, axis=0).max() > 0.1
    np.testing.assert_allclose(embedded, expected, rtol=2**-7, atol=1e-4)
    assert (embedded.astype(HALF).astype(np.float32) == expected).mean() > 0.98


def test_neither_devices_nor_the_size_of_batches_matters(embedded):
    """Batches of eight over eight devices, of four and less over four; the last is filled up."""
    for devices, batch_size in ((8, 64), (8, 8), (8, 4), (1, 3)):
        found = Model(loaded(), devices=devices, batch_size=batch_size).embed(PIXELS)
        np.testing.assert_allclose(found, embedded, atol=1e-5)


def test_files_and_boxes(model, embedded, tmp_path):
    wide = np.zeros((SIZE + 8, SIZE + 20, 3), np.uint8)
    wide[8:, 20:] = PIXELS[0]
    Image.fromarray(wide).save(tmp_path / "wide.png")
    inside = SIZE / 1.5  # whose margin of a quarter on each side makes it the whole square
    x0, y0 = 20 - 0.5 + SIZE / 6, 8 - 0.5 + SIZE / 6
    found = model.embed([tmp_path / "wide.png"], boxes=[[x0, y0, x0 + inside, y0 + inside]])
    np.testing.assert_allclose(found[0], embedded[0], atol=0.02)
    whole = model.embed([str(tmp_path / "wide.png"), Image.fromarray(PIXELS[1])])
    assert np.abs(whole[0] - embedded[0]).max() > 0.05
    np.testing.assert_allclose(whole[1], embedded[1], atol=1e-5)


def test_other_features(model, embedded):
    found = model.features(PIXELS[:2], names=("tokens", "map1", "cls", "pooled"))
    assert {name: x.shape for name, x in found.items()} == {
        "tokens": (2, 16, 32),
        "map1": (2, 4, 4, 32),
        "cls": (2, 32),
        "pooled": (2, 32),
    }
    np.testing.assert_allclose(found["pooled"], embedded[:2], atol=1e-5)
    np.testing.assert_allclose(found["map1"], extractor(ENCODER, (1,))(PIXELS[:2])["map1"], rtol=2**-7, atol=1e-3)
    with pytest.raises(ValueError, match="no feature 'map2' of an encoder of 2 stages; did you mean 'map1'"):
        model.features(PIXELS[:2], names=("map2",))


class Brightest:
    """A task without a head: the feature that is largest, as it is kept."""

    label, taps = "brightest", ()

    def predict(self, seen, batch):
        return seen["image"].pooled.max(-1)


def test_a_prediction_without_a_name_is_called_by_its_label(embedded):
    for rounds in (False, True):
        found = Model(loaded(Brightest(), rounds), devices=1).predict(PIXELS[:3])
        largest = embedded[:3].max(1)
        expected = largest.astype(HALF).astype(np.float32) if rounds else largest
        np.testing.assert_allclose([each["brightest"] for each in found], expected, rtol=1e-5)


def test_what_cannot_be_read_is_skipped_in_its_place(model, embedded, tmp_path):
    for number in range(5):
        Image.fromarray(PIXELS[number]).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:500])
    (tmp_path / "4.png").write_bytes(b"")
    found = list(model.run(faces.in_files([str(tmp_path)]), model.loaded.transforms(WHOLE), names=("pooled",)))
    assert [type(each) for each in found] == [Seen, Skipped, Seen, Seen, Skipped]
    assert found[4] == Skipped(str(tmp_path / "4.png"), "the file is empty")
    for number in (0, 2, 3):
        assert found[number].face.id == str(tmp_path / f"{number}.png")
        np.testing.assert_allclose(found[number].outputs["pooled"], embedded[number], atol=1e-5)
    with pytest.raises(ValueError, match=r"4\.png: the file is empty"):
        model.embed([tmp_path / "0.png", tmp_path / "4.png"])


def test_bad_calls(model):
    with pytest.raises(ValueError, match=r"a sequence of images is expected, not one: \[image\]"):
        model.embed("one.png")
    with pytest.raises(ValueError, match="a sequence of images is expected"):
        model.embed(PIXELS[0])
    with pytest.raises(ValueError, match="there are no images"):
        model.embed([])
    with pytest.raises(ValueError, match="here holds nothing that predicts: give the workdir of a facerep evaluate"):
        model.predict(PIXELS)
    with pytest.raises(ValueError, match="batch_size is at least 1, not 0"):
        Model(loaded(), batch_size=0)


def test_the_package_offers_it_and_nothing_else():
    from facerep_jax.inference.model import load

    assert facerep_jax.load is load
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        facerep_jax.lod  # noqa: B018
