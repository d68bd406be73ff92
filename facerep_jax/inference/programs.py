"""Networks as programs that run without this package: from uint8 images to features, or to what was learnt.

Two kinds: `stablehlo`, what `jax.export` writes and reads, for a CPU, a GPU or a TPU; and `onnx`. Both hold their
weights, take batches of any size, compute in float32 and are run once, against the network, before they are kept.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from facerep_jax.config import locate
from facerep_jax.evaluation.cache import rounded
from facerep_jax.inference.loading import ALIGNED, WHOLE, Loaded
from facerep_jax.typing import Features, Named, View

STABLEHLO, ONNX = "stablehlo", "onnx"
KINDS = (STABLEHLO, ONNX)
FILES = {STABLEHLO: "model.stablehlo", ONNX: "model.onnx"}
IMAGES = "images"  # the argument
PLATFORMS = ("cpu", "cuda", "tpu")
ALIKE = 1e-4  # largest difference, as a share of the largest value
SAME = 0.999  # of classes, which two numbers that are nearly equal may swap
INSTALL = "pip install 'facerep_jax[export]'"
RUNS = {
    STABLEHLO: """import jax, pathlib
program = jax.export.deserialize(pathlib.Path("model.stablehlo").read_bytes())
outputs = program.call(images)""",
    ONNX: """import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
outputs = dict(zip([each.name for each in session.get_outputs()], session.run(None, {"images": images})))""",
}
AFTER = {  # label -> what is to be done with the output
    "landmarks": "points x, y in pixels of the square, the centre of its first pixel at (0, 0): scale and shift them "
    "back to the picture by the box that the square was cut from",
    "mask": "the class of each pixel of the square: enlarge it to the box by nearest pixels; outside nothing is known",
}

Outputs = Mapping[str, Any]


class Program(NamedTuple):
    """A network written down."""

    kind: str
    content: bytes
    outputs: Mapping[str, jax.ShapeDtypeStruct]


def written(kind: str, loaded: Loaded) -> Program:
    """The program of an encoder, or of an encoder and the head that an evaluation learnt on it.

    Raises:
        ValueError: packages are missing, the network does what the kind cannot say, or the program gives something
            else than the network.
    """
    function = function_of(loaded)
    size = loaded.image_size
    (batch,) = jax.export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, size, size, 3), np.uint8)
    outputs = jax.eval_shape(function, images)  # raises for a size that the network does not take
    content, run = (of_jax if kind == STABLEHLO else of_onnx)(function, images)
    require_same(function, run, size, FILES[kind])
    return Program(kind, content, outputs)


def function_of(loaded: Loaded) -> Callable[[Any], Outputs]:
    """From uint8 images (b, size, size, 3) to `pooled` and `tokens`, or to what the task predicts, by its label."""
    graph, state = nnx.split((loaded.encoder, loaded.task))

    def function(images: Any) -> Outputs:
        task: Any
        encoder, task = nnx.merge(graph, state)
        features: Features = encoder(View(images, taps=tuple(sorted(set(task.taps))) if task else ()))
        if task is None:
            return {"pooled": features.pooled, "tokens": features.tokens}
        seen = {"image": rounded(features) if loaded.rounds else features}
        return {task.label: task.predict(seen, {"image": images})}

    return function


def of_jax(function: Callable[[Any], Outputs], images: Any) -> tuple[bytes, Callable[[Any], Outputs]]:
    """The file of `jax.export`, and what runs it."""
    try:
        import flatbuffers  # noqa: F401 (jax writes by it)
    except ImportError as error:
        raise ValueError(f"stablehlo needs a package ({error}): {INSTALL}") from None
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(images)
    content = bytes(exported.serialize())
    return content, jax.export.deserialize(bytearray(content)).call


def of_onnx(function: Callable[[Any], Outputs], images: Any) -> tuple[bytes, Callable[[Any], Outputs]]:
    """The file of ONNX, and what runs it."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"onnx needs packages ({error}): {INSTALL}") from None
    from facerep_jax.inference.onnx_model import model_of

    model = model_of(function, images, IMAGES)
    if model.ByteSize() >= 2**31:
        raise ValueError(f"a file of ONNX holds 2 GB, the network has {model.ByteSize() / 1e9:.1f} GB")
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return content, lambda x: dict(zip(names, session.run(None, {IMAGES: np.asarray(x)}), strict=True))


def require_same(function: Callable, run: Callable, size: int, name: str) -> None:
    """Raise ValueError if a program gives other outputs than the network for two images of noise."""
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    here, there = (jax.tree.map(np.asarray, dict(each(images))) for each in (jax.jit(function), run))
    for key, expected in here.items():
        found = there[key]
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise ValueError(
                f"{name} gives {key} as {found.dtype} {found.shape}, not {expected.dtype} {expected.shape}"
            )
        if np.issubdtype(expected.dtype, np.integer):
            alike = np.mean(found == expected) >= SAME
        else:
            alike = np.abs(found - expected).max() <= ALIKE * np.abs(expected).max()
        if not alike:
            raise ValueError(f"{name} gives another {key} than the network")


def described(program: Program, loaded: Loaded) -> list[str]:
    """Lines of a model card: how to run it, what to do before and behind it."""
    size, shown = loaded.image_size, [locate(each).__name__ for each in loaded.shown]
    margin = next((each["margin"] for each in loaded.shown if each.get("margin")), 0)
    cut = f"the face's box and {margin:g} of it on each side"
    cut = {WHOLE: "the whole picture", ALIGNED: "the face, moved to insightface's template"}.get(loaded.crop, cut)
    lines = ["Run it, for any number of images at a time:", "", "```python", RUNS[program.kind], "```", ""]
    lines += [
        f"Before: turn the picture upright as its EXIF says; cut out {cut}, and resize it to {size} x {size} pixels "
        f"(bicubic, smoothed where it shrinks; here {' and '.join(shown)} did it). `images` are uint8, RGB, (batch, "
        f"{size}, {size}, 3). Normalisation is in the program.",
        "",
        "| output | type and shape | |",
        "|---|---|---|",
    ]
    for name, each in program.outputs.items():
        shape = ", ".join(["batch", *map(str, each.shape[1:])])
        lines.append(f"| `{name}` | {each.dtype}, ({shape}) | {behind(name, loaded)} |")
    if classes := loaded.meta.get("classes") if "mask" in program.outputs else None:
        lines += ["", "Classes: " + ", ".join(f"{index} {name}" for index, name in enumerate(classes)) + "."]
    return [*lines, ""]


def behind(name: str, loaded: Loaded) -> str:
    """What an output means, and what is to be done with it."""
    if loaded.task is None:
        return {"pooled": "the feature of the image", "tokens": "features of its patches, row by row"}[name]
    named = "scores, to which `facerep predict` gives names" if isinstance(loaded.task, Named) else "as it is"
    return AFTER.get(name, named)


def saver(content: bytes) -> Callable[[Path], Any]:
    """What writes bytes to a path."""
    return lambda path: path.write_bytes(content)
