"""Frozen networks, from where their weights lie to the file that a run keeps.

Planted and seen red: statistics left as drawn; the file written anew; a kernel's rows and columns swapped.
"""

import hashlib
import json
import shutil

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from flax import nnx

from facerep_jax.config import spec
from facerep_jax.models.dvae import DVAEEncoder
from facerep_jax.models.tokenizer import DVAE, KMeansTokenizer
from facerep_jax.train import frozen, handover
from facerep_jax.train.frozen import Fitted, Given, check_given, given_weights, read_frozen, write_frozen
from facerep_jax.train.model import arrays_of, model_maker
from facerep_jax.train.state import Model, abstract, flat, split
from facerep_jax.typing import Frozen, as_kind
from facerep_jax.weights import dalle
from tests.train.tiny import TinyEncoder, TinyObjective, numbered, write_run

CONFIG = dict(seed=3, steps=9, dtype="float32", remat="none", encoder=spec(TinyEncoder), objective=spec(TinyObjective))
SIZES = dict(channels=4, groups=2, blocks=1, codes=8)


class Borrower(nnx.Module):
    """Holds an encoder with weights from elsewhere."""

    def __init__(self, weights, *, width=4):
        encoder = TinyEncoder(width=width, dtype="float32", remat="none", rngs=nnx.Rngs(params=5))
        self.network, self.weights = as_kind(encoder, Frozen), weights


class Owner(nnx.Module):
    """Stands for an objective, some modules of which are frozen."""

    def __init__(self, **modules):
        self.parts = nnx.Dict(modules)
        self.scale = nnx.Param(np.ones(3, np.float32))


def maker(**modules):
    """A function that makes a model whose objective holds what these functions make."""
    return lambda: Model(None, Owner(**{name: make() for name, make in modules.items()}))


def kmeans():
    return KMeansTokenizer(patch=4, codes=4, cells=2, rngs=nnx.Rngs(params=0))


def dvae(weights):
    return DVAE(patch=2, weights=str(weights), **SIZES, rngs=nnx.Rngs(params=0))


def examples(count):
    """Training examples, as the stream gives them."""
    assert count == frozen.FIT_IMAGES
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)
    return [{"image": image, "id": index} for index, image in enumerate(images)]


def begin(workdir):
    """Leave what shows that a run has begun."""
    (workdir / "config.json").touch()


def no_examples(count):
    raise AssertionError("nothing is fitted here")


def kept(make, workdir):
    """What a workdir keeps, by path in the objective's parts."""
    arrays, _ = read_frozen(abstract(make)[3], workdir)
    return {path.removeprefix("objective/parts/"): np.asarray(x) for path, x in flat(arrays).items()}


def origins(workdir):
    """What the file says of where weights are from."""
    with safetensors.safe_open(workdir / frozen.FILE, "np") as file:
        return json.loads(file.metadata()["weights"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A pre-training's workdir, and its encoder."""
    workdir = tmp_path_factory.mktemp("run")
    model = numbered(model_maker(CONFIG)())
    write_run(workdir, CONFIG, model)
    return workdir, model.encoder


def test_modules_say_by_what_they_have_how_they_come_by_their_weights():
    both = dvae("")
    assert isinstance(both, Given)
    assert isinstance(both, Fitted)
    assert isinstance(kmeans(), Fitted)
    assert not isinstance(kmeans(), Given)
    assert isinstance(Borrower(""), Given)
    assert not isinstance(Borrower(""), Fitted)
    assert not isinstance(Owner(), Given | Fitted)


def test_a_network_is_given_all_of_an_encoder_and_stays_frozen(run, tmp_path):
    workdir, encoder = run
    make = maker(teacher=lambda: Borrower(f"{workdir}@3"))
    write_frozen(make, no_examples, tmp_path)
    arrays = kept(make, tmp_path)
    assert {path.removeprefix("teacher/network/") for path in arrays} == arrays_of(encoder).keys()
    for path, x in arrays_of(encoder).items():
        np.testing.assert_array_equal(arrays[f"teacher/network/{path}"], x)
    digest = handover.encoder(str(workdir)).origin["digest"]
    assert origins(tmp_path) == {"objective/parts/teacher": f"{workdir}@3 sha256:{digest}"}


def test_what_is_given_is_of_kind_frozen(run):
    borrower = Borrower(str(run[0]))
    given_weights("teacher", borrower)
    _, params, variables, frozen = split(borrower)
    assert not jax.tree.leaves((params, variables))
    assert flat(frozen).keys() == {f"network/{path}" for path in arrays_of(run[1])}


def test_a_file_and_a_checkpoint_give_the_same_and_neither_is_needed_again(tmp_path):
    config = {**CONFIG, "encoder": spec(DVAEEncoder, **SIZES)}
    encoder = DVAEEncoder(**SIZES, dtype="float32", remat="none", rngs=nnx.Rngs(params=7))
    ours = {path: np.asarray(x) for path, x in arrays_of(encoder).items()}
    write_run(tmp_path / "dvae", config, Model(encoder, Owner()))
    file = tmp_path / "dvae.safetensors"
    safetensors.numpy.save_file(dalle.exported(ours), file)

    found = []
    for name, source in (("of_file", file), ("of_run", tmp_path / "dvae")):
        workdir = tmp_path / name
        workdir.mkdir()
        make = maker(tokenizer=lambda source=source: dvae(source))
        write_frozen(make, examples, workdir)
        found.append(kept(make, workdir))
    for path, x in ours.items():
        np.testing.assert_array_equal(found[0][f"tokenizer/network/{path}"], x)
    assert found[0].keys() == found[1].keys() == {"tokenizer/frequency", *(f"tokenizer/network/{p}" for p in ours)}
    for path, x in found[0].items():
        np.testing.assert_array_equal(found[1][path], x)
    frequency = found[0]["tokenizer/frequency"]
    assert frequency.sum() == pytest.approx(1)
    assert len(np.unique(frequency)) > 1  # it was fitted with the weights that were given
    assert origins(tmp_path / "of_file")["objective/parts/tokenizer"].startswith(f"{file} sha256:")

    file.unlink()
    shutil.rmtree(tmp_path / "dvae")
    begin(tmp_path / "of_run")
    write_frozen(make, no_examples, tmp_path / "of_run")
    np.testing.assert_array_equal(kept(make, tmp_path / "of_run")["tokenizer/frequency"], frequency)


def test_the_file_is_written_once_a_run_has_begun_and_anew_before(run, tmp_path):
    """Tried: a file that was left by a start that came to nothing is taken over."""
    drawn, given = (maker(teacher=lambda name=name: Borrower(name)) for name in (frozen.RANDOM, str(run[0])))
    write_frozen(drawn, no_examples, tmp_path)
    left = (tmp_path / frozen.FILE).read_bytes()
    write_frozen(given, no_examples, tmp_path)
    before = (tmp_path / frozen.FILE).read_bytes()
    assert before != left
    begin(tmp_path)
    write_frozen(drawn, no_examples, tmp_path)
    assert (tmp_path / frozen.FILE).read_bytes() == before


def test_what_is_left_of_frozen_networks_goes_if_the_model_has_none(tmp_path):
    (tmp_path / frozen.FILE).touch()
    write_frozen(model_maker(CONFIG), no_examples, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("width", "names", "message"),
    [
        (5, ("teacher",), r"teacher/network/kernel is \(3, 4\) float32 there and \(3, 5\) float32 in the config"),
        (4, ("other",), r"other/network/kernel is missing there and \(3, 4\) float32 in the config"),
        (4, ("teacher", "other"), r"other/network/kernel is missing there and \(3, 4\) float32 in the config"),
    ],
)
def test_another_file_than_the_model_wants_is_refused(drawn, width, names, message):
    """Tried: arrays taken by their names alone."""
    shapes = abstract(maker(**{name: lambda: Borrower(frozen.RANDOM, width=width) for name in names}))[3]
    with pytest.raises(ValueError, match=f"{frozen.FILE} holds other frozen networks than the config's: .*{message}"):
        read_frozen(shapes, drawn)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A workdir that keeps a random teacher."""
    workdir = tmp_path_factory.mktemp("drawn")
    write_frozen(maker(teacher=lambda: Borrower(frozen.RANDOM)), no_examples, workdir)
    return workdir


def test_a_file_that_is_missing_or_damaged_is_named(drawn, tmp_path):
    shapes = abstract(maker(teacher=lambda: Borrower(frozen.RANDOM)))[3]
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path} has no {frozen.FILE}"):
        read_frozen(shapes, tmp_path)
    (tmp_path / frozen.FILE).write_bytes((drawn / frozen.FILE).read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{frozen.FILE} is no safetensors file"):
        read_frozen(shapes, tmp_path)


def test_a_network_that_computes_otherwise_is_refused_although_its_arrays_fit(run):
    """Tried: no look at settings."""
    borrower = Borrower(str(run[0]))
    borrower.network.norm.momentum = 0.5
    with pytest.raises(ValueError, match=r"teacher: .* holds another network .*: norm/momentum: .* -> 0"):
        given_weights("teacher", borrower)


def test_random_networks_stay_as_they_were_drawn(tmp_path):
    make = maker(teacher=lambda: Borrower(frozen.RANDOM))
    write_frozen(make, no_examples, tmp_path)
    drawn = jax.jit(lambda: arrays_of(Borrower("").network))()  # a draw outside differs in its last bits
    arrays = kept(make, tmp_path)
    for path, x in drawn.items():
        np.testing.assert_array_equal(arrays[f"teacher/network/{path}"], x)
    assert origins(tmp_path) == {"objective/parts/teacher": "random"}


def test_a_fit_sees_the_training_images(tmp_path):
    make = maker(tokenizer=kmeans, teacher=lambda: Borrower(frozen.RANDOM))
    write_frozen(make, examples, tmp_path)
    alone = kmeans()
    alone.fit_images(np.stack([example["image"] for example in examples(frozen.FIT_IMAGES)]))
    arrays = kept(make, tmp_path)
    np.testing.assert_array_equal(arrays["tokenizer/centres"], alone.centres[...])
    np.testing.assert_array_equal(arrays["tokenizer/frequency"], alone.frequency[...])
    assert "teacher/network/kernel" in arrays


def test_a_model_without_frozen_networks_has_no_file(tmp_path):
    make = model_maker(CONFIG)
    write_frozen(make, no_examples, tmp_path)
    assert not list(tmp_path.iterdir())
    shapes = abstract(make)[3]
    assert read_frozen(shapes, tmp_path) == (shapes, {})
    assert dict(frozen.digests(tmp_path)) == {}


def test_what_is_read_is_the_trees_shape_and_the_files_digest(run, tmp_path):
    make = maker(teacher=lambda: Borrower(str(run[0])))
    write_frozen(make, no_examples, tmp_path)
    shapes = abstract(make)[3]
    tree, digest = read_frozen(shapes, tmp_path)
    assert jax.tree.structure(tree) == jax.tree.structure(shapes)
    assert digest == {frozen.FILE: hashlib.sha256((tmp_path / frozen.FILE).read_bytes()).hexdigest()}


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ("", ValueError, "objective/parts/teacher has no weights; give a file of weights or a pre-training's WORKDIR"),
        ("{tmp}/none", FileNotFoundError, "teacher: {tmp}/none is neither a file of weights nor a pre-training's WORK"),
        ("{tmp}/text.safetensors", ValueError, "teacher: {tmp}/text.safetensors is no safetensors file: "),
        ("{tmp}/other.safetensors", ValueError, "teacher: {tmp}/other.safetensors: the layout of the weights is not"),
        ("gs://bucket/some.safetensors", ValueError, "teacher: checkpoint gs://bucket/some.safetensors: gs:// is not"),
    ],
)
def test_wrong_weights_name_the_network_and_leave_nothing(tmp_path, weights, error, message):
    (tmp_path / "text.safetensors").write_text("no tensors, but more than eight bytes of text")
    safetensors.numpy.save_file({"x": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    workdir = tmp_path / "run"
    workdir.mkdir()
    make = maker(teacher=lambda: Borrower(weights.format(tmp=tmp_path)))
    for act in (lambda: check_given(make), lambda: write_frozen(make, no_examples, workdir)):
        with pytest.raises(error) as raised:
            act()
        assert message.format(tmp=tmp_path) in str(raised.value)
        assert str(raised.value).startswith("objective/parts/teacher")
    assert not list(workdir.iterdir())


def test_weights_of_another_size_are_named(run, tmp_path):
    make = maker(teacher=lambda: Borrower(str(run[0]), width=5))
    with pytest.raises(ValueError, match=r"objective/parts/teacher: .* kernel is \(3, 4\) float32 there and \(3, 5\)"):
        write_frozen(make, no_examples, tmp_path)
