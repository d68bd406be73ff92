"""Floating-point operations of a program, counted on its trace or as compiled: matrix products and convolutions only.

XLA's own count includes the body of a scan once, however often it runs. These counts multiply by the length, and are
exact for what they include. They leave out additions, norms and activations, a few percent of a transformer. That of a
trace needs no device; that of a compiled program is of one device, with all that it computes again or that its
neighbours compute too.

Of a dilated convolution the taps that meet the zeros between pixels are left out: the gradient of a strided convolution
counts as much as the convolution, and a batched product, which compilers for TPUs write as one, as a product.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

from facerep_jax.train.program import extent, summed

AGAIN = "rematted_computation"  # how jax marks what `jax.checkpoint` computes again
RESULT = re.compile(r"%?([\w.-]+) = [a-z]+\d+\w*\[([\d,]*)\]")
PRODUCT = re.compile(r" (dot|convolution)\((.*?)\), ")
OPERAND = re.compile(r"(?:[a-z]+\d+\w*\[[\d,]*\](?:\{[^}]*\})? )?%([\w.-]+)")
CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
DILATED = re.compile(r"lhs_dilate=([\dx]+)")
KERNEL = re.compile(r"dim_labels=\w+_(\w+)->")


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
            kernel, features = shape(equation.invars[1]), parameters["dimension_numbers"].rhs_spec[0]
            taps = math.prod(kernel) // kernel[features]
            total += 2 * math.prod(shape(equation.outvars[0])) * taps // math.prod(parameters["lhs_dilation"])
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
    shapes = {found[1]: found[2] for line in lines if (found := RESULT.search(line))}
    total = 0
    for line in lines:
        if not (product := PRODUCT.search(line)) or not (result := RESULT.search(line)):
            continue
        left, right = (shapes[name] for name in OPERAND.findall(product[2])[:2])
        if product[1] == "dot" and (contracted := CONTRACTED.search(line)):
            sizes = left.split(",")
            inner: float = math.prod(int(sizes[int(axis)]) for axis in contracted[1].split(",") if axis)
        else:
            labels = KERNEL.search(line)
            features = int(right.split(",")[labels[1].index("o")]) if labels else 1
            holes = DILATED.search(line)
            between = math.prod(map(int, holes[1].split("x"))) if holes else 1
            inner = extent(right) / (features * between)
        total += round(2 * extent(result[2]) * inner)
    return Counter(flops=total)
