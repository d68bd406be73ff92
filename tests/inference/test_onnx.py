"""Networks as models of ONNX, run by onnxruntime, against frozen outputs of published code and this package's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax import cli, weights
from facerep_jax.config import build, spec
from facerep_jax.evaluation.tasks.landmarks import Heatmaps, Landmarks
from facerep_jax.evaluation.tasks.parsing import Parsing
from facerep_jax.inference import onnx_model, programs
from facerep_jax.inference.model import Model
from facerep_jax.models import uper
from facerep_jax.models.iresnet import IResNet
from facerep_jax.models.resnet import ResNet
from facerep_jax.train.model import filled
from facerep_jax.typing import View
from facerep_jax.weights._torch_save import save
from tests.evaluation.problems import SIZE, make_encoder
from tests.inference.test_programs import PIXELS, filled_with_noise, loaded
from tests.parity import exports
from tests.parity.layouts import CASES, SIZES, frozen, image, state_of

onnx, onnxruntime = (
    pytest.importorskip(library, reason=f"{library} is not installed; the extra `export` has it")
    for library in ("onnx", "onnxruntime")
)
pytestmark = pytest.mark.slow


def run(content):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(None, {"images": images}), strict=True))


def model_of(function, size):
    (batch,) = jax.export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((batch, size, size, 3), np.uint8)
    return run(onnx_model.model_of(function, shape, "images").SerializeToString())


def features_of(encoder, taps=()):
    graph, state = nnx.split(encoder)

    def function(images):
        seen = nnx.merge(graph, state)(View(images, taps=taps))
        return {"pooled": seen.pooled, "tokens": seen.tokens} | {f"map{tap}": seen.maps[tap] for tap in taps}

    return function


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_allclose(found[name], x, atol=1e-4 * np.abs(x).max(), err_msg=name)


@pytest.mark.parametrize("name", CASES)
def test_outputs_equal_those_of_published_code(name):
    arrays, layout = state_of(name), weights.load(CASES[name].layout)
    empty = nnx.eval_shape(
        lambda: build(layout.encoder(arrays), dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
    )
    encoder = filled(empty, layout.imported(arrays), "it")
    for size in SIZES:
        theirs = frozen(name, size)
        found = model_of(features_of(encoder), size)(image(size))
        assert_close({"pooled": found["pooled"]}, {"pooled": theirs["pooled"]})
        if "tokens" in theirs:
            assert_close({"tokens": found["tokens"]}, {"tokens": theirs["tokens"]})


@pytest.mark.parametrize("kind", ["resnet18", "resnet50", "iresnet18", "taps"])
def test_other_networks_give_what_they_give_here(kind):
    settings = dict(dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
    encoder = {
        "resnet18": lambda: ResNet(variant="18", channels=8, **settings),
        "resnet50": lambda: ResNet(variant="50", channels=8, **settings),
        "iresnet18": lambda: IResNet(variant="18", image_size=32, **settings),
        "taps": make_encoder,
    }[kind]()
    function = features_of(encoder, taps=() if kind == "iresnet18" else (0, 1))
    program = model_of(function, SIZE)
    for count in (1, 3):
        expected = jax.tree.map(np.asarray, jax.jit(function)(jnp.asarray(PIXELS[:count])))
        assert_close(program(PIXELS[:count]), expected)


@pytest.mark.parametrize("rounds", [False, True])
@pytest.mark.parametrize("task", ["landmarks", "mask"])
def test_a_linear_head_gives_what_predict_gives(task, rounds):
    what = loaded(task, rounds=rounds)
    there = run(programs.written(programs.ONNX, what).content)(PIXELS)[task]
    here = np.stack([each[task] for each in Model(what, devices=1).predict(PIXELS)])
    if task == "mask":
        assert there.dtype == np.uint8
        assert len(np.unique(there)) > 1
        assert (there == here).mean() > 0.999
    else:
        np.testing.assert_allclose(there, here, atol=1e-3)


@pytest.mark.parametrize("task", ["landmarks", "mask"])
def test_heads_of_farl_give_what_they_give_here(task):
    head = spec(uper.UPerHead, channels=8)
    encoder = make_encoder()
    given = dict(taps=(0.25, 0.5, 0.75, 1.0), image_size=SIZE, meta={"classes": "abc"}, rngs=nnx.Rngs(params=0))
    if task == "landmarks":
        built = Landmarks(encoder, head=spec(Heatmaps, dense=head), label_shape=(5, 2), **given)
    else:
        built = Parsing(encoder, head=head, **given)
    what = loaded()._replace(encoder=encoder, task=filled_with_noise(built))
    program = programs.written(programs.ONNX, what)  # which compares
    assert run(program.content)(PIXELS)[task].shape[0] == len(PIXELS)


def test_the_command_line_writes_one_that_others_run(tmp_path):
    save({"state_dict": exports.clip()}, tmp_path / "farl.pth")
    assert cli.main(["facerep", "convert", str(tmp_path / "farl.pth"), str(tmp_path / "out"), "--layout=onnx"]) == 0
    model = onnx.load(tmp_path / "out" / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [each.version for each in model.opset_import] == [18]
    kept = sum(onnx.numpy_helper.to_array(each).size for each in model.graph.initializer)
    assert kept < 1.2 * sum(x.size for name, x in exports.clip().items() if name.startswith("visual."))  # each once
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["batch", 32, 32, 3])
    assert 'onnxruntime.InferenceSession("model.onnx")' in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: {"x": jnp.sort(x.astype(jnp.float32), 1)}, "'sort'"),
        (lambda x: {"x": jax.lax.reduce_precision(x.astype(jnp.float32), 5, 10)}, "another type than bfloat16"),
    ],
)
def test_what_has_no_counterpart_is_named(function, what):
    with pytest.raises(ValueError, match=rf"the network .*{what}.* is not written as ONNX"):
        model_of(function, SIZE)
