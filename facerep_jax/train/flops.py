"""Floating-point operations of a program, counted on its trace or as compiled: matrix products and convolutions only.

XLA's own count includes the body of a scan once, however often it runs. These counts multiply by the length, and are
exact for what they include. They leave out additions, norms and activations, a few percent of a transformer. That of a
trace needs no device; that of a compiled program is of one device, with all that it computes again or that its
neighbours compute too.

Of convolutions the taps that meet padding or the zeros between pixels are left out, as XLA does: the gradient of a
convolution counts as much as the convolution, and products that compilers for TPUs write as convolutions as products.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from facerep_jax.train.program import extent, summed

AGAIN = "rematted_computation"  # how jax marks what `jax.checkpoint` computes again
RESULT = re.compile(r"%?([\w.-]+) = [a-z]+\d+\w*\[([\d,]*)\]")
PRODUCT = re.compile(r" (dot|convolution)\((.*?)\), ")
OPERAND = re.compile(r"(?:[a-z]+\d+\w*\[[\d,]*\](?:\{[^}]*\})? )?%([\w.-]+)")
CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
WINDOW = re.compile(r"(size|stride|pad|lhs_dilate|rhs_dilate)=([\d_x-]+)")
STEPS = ("stride", "lhs_dilate", "rhs_dilate")
Sizes = tuple[int, ...]


def flops(function: Callable[..., Any], *shapes: Any) -> int:
    """Operations of one call, where a multiply-add counts as two; `shapes` are arrays or `jax.ShapeDtypeStruct`s."""
    return of_jaxpr(jax.make_jaxpr(function)(*shapes).jaxpr)


def of_jaxpr(jaxpr: Jaxpr, within: str = "") -> int:
    """Operations of a traced program, without what rematerialisation computes again.

    `within`, the name of a `jax.named_scope`, counts what is in it alone, forward and backward.
    A loop without a fixed length counts as one pass, a branch as its costliest, what devices do on their parts for all.
    """
    total = 0
    for equation in jaxpr.eqns:
        place = str(equation.source_info.name_stack)
        if AGAIN in place:
            continue
        name, parameters = equation.primitive.name, equation.params
        counted = within in place  # then all inside of it is, whose places begin anew
        inner = [of_jaxpr(each, "" if counted else within) for each in inside(parameters)]
        if not (inner or counted):
            continue
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            left = shape(equation.invars[0])
            total += 2 * math.prod(shape(equation.outvars[0])) * math.prod(left[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            left, right, out = map(shape, (*equation.invars, *equation.outvars))
            total += of_convolution(left, right, out, parameters)
        elif name == "scan":
            total += parameters["length"] * sum(inner)
        elif name == "cond":
            total += max(inner)
        elif name == "shard_map":  # inside, shapes are those of a device
            total += devices(parameters) * sum(inner)
        else:
            total += sum(inner)
    return total


def inside(parameters: dict[str, Any]) -> Iterator[Jaxpr]:
    """The programs inside an equation: bodies of loops, branches, calls."""
    for value in jax.tree.leaves(parameters, is_leaf=lambda x: isinstance(x, ClosedJaxpr | Jaxpr)):
        if isinstance(value, ClosedJaxpr | Jaxpr):
            yield value.jaxpr if isinstance(value, ClosedJaxpr) else value


def devices(parameters: dict[str, Any]) -> int:
    """How many devices share a program that each runs on its part: those of the axes that its inputs are split over."""
    parts = jax.tree.leaves([tuple(spec) for spec in parameters["in_specs"]])
    return math.prod(parameters["mesh"].shape[axis] for axis in set(parts))


def shape(variable: Any) -> tuple[int, ...]:
    """The shape of a variable in a program."""
    return variable.aval.shape


def of_program(program: str) -> int:
    """Operations of a compiled program on each device, what rematerialisation computes again among them.

    Args:
        program: the text of an optimised HLO module, as `jax.stages.Compiled.as_text` gives it.
    """
    return summed(program, products)["flops"]


def products(lines: list[str]) -> Counter[str]:
    """Operations of the products in one computation's own lines."""
    shapes = {found[1]: sizes_of(found[2]) for line in lines if (found := RESULT.search(line))}
    total = 0
    for line in lines:
        if not (product := PRODUCT.search(line)) or not (result := RESULT.search(line)):
            continue
        left, right = (shapes[name] for name in OPERAND.findall(product[2])[:2])
        if labels := LABELS.search(line):
            total += of_compiled_convolution(left, right, sizes_of(result[2]), labels, line)
        else:
            contracted = CONTRACTED.search(line)
            axes = sizes_of(contracted[1]) if contracted else ()
            total += 2 * extent(result[2]) * math.prod(left[axis] for axis in axes)
    return Counter(flops=total)


def of_compiled_convolution(left: Sizes, right: Sizes, out: Sizes, labels: re.Match[str], line: str) -> int:
    """Operations of a convolution in a compiled program, which is written with the places of its axes and a window."""
    window = {name: value.split("x") for name, value in WINDOW.findall(line)}
    axes = []
    for axis in range(len(left) - 2):
        inputs, taps, outputs = (
            x[of.index(str(axis))] for x, of in zip((left, right, out), labels.groups(), strict=True)
        )
        stride, holes, apart = (int(window[name][axis]) if name in window else 1 for name in STEPS)
        before = int(window["pad"][axis].partition("_")[0]) if "pad" in window else 0
        axes.append(meetings(inputs, taps, outputs, stride=stride, before=before, holes=holes, apart=apart))
    _, kernel, result = labels.groups()
    return 2 * math.prod(axes) * out[result.index("b")] * out[result.index("f")] * right[kernel.index("i")]


def of_convolution(left: Sizes, right: Sizes, out: Sizes, parameters: Mapping[str, Any]) -> int:
    """Operations of a convolution in a traced program."""
    places = parameters["dimension_numbers"]
    (_, _, *inputs), (_, features, *taps), (batch, channels, *outputs) = places
    steps = zip(
        *(parameters[name] for name in ("window_strides", "padding", "lhs_dilation", "rhs_dilation")), strict=True
    )
    axes = [
        meetings(left[i], right[t], out[o], stride=stride, before=before, holes=holes, apart=apart)
        for i, t, o, (stride, (before, _), holes, apart) in zip(inputs, taps, outputs, steps, strict=True)
    ]
    return 2 * math.prod(axes) * out[batch] * out[channels] * right[features]


def meetings(inputs: int, taps: int, outputs: int, *, stride: int, before: int, holes: int, apart: int) -> int:
    """How often a tap of a window meets an input along one axis, and not padding or a zero between two inputs.

    Args:
        before: zeros of padding before the first input.
        holes, apart: distance of two inputs, and of two taps.
    """
    places = stride * np.arange(outputs)[:, None] + apart * np.arange(taps)[None] - before
    return int(((places >= 0) & (places % holes == 0) & (places < inputs * holes)).sum())


def sizes_of(dimensions: str) -> Sizes:
    """Numbers that are written as in bf16[64,512]."""
    return tuple(map(int, filter(None, dimensions.split(","))))
