"""Floating-point operations of a program, counted on its trace: matrix products and convolutions only.

XLA's own count includes the body of a scan once, however often it runs. This count multiplies by the length, needs no
device, and is exact for what it includes. It leaves out additions, norms and activations, a few percent of a
transformer.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

AGAIN = "rematted_computation"  # how jax marks what `jax.checkpoint` computes again


def flops(function: Callable[..., Any], *shapes: Any) -> int:
    """Operations of one call, where a multiply-add counts as two; `shapes` are arrays or `jax.ShapeDtypeStruct`s."""
    return of_jaxpr(jax.make_jaxpr(function)(*shapes).jaxpr)


def of_jaxpr(jaxpr: Jaxpr) -> int:
    """Operations of a traced program, without what rematerialisation computes again.

    A loop without a fixed length counts as one pass, a branch as its costliest, what devices do on their parts for all.
    """
    total = 0
    for equation in jaxpr.eqns:
        if AGAIN in str(equation.source_info.name_stack):
            continue
        name, parameters = equation.primitive.name, equation.params
        inner = [of_jaxpr(each) for each in inside(parameters)]
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            left = shape(equation.invars[0])
            total += 2 * math.prod(shape(equation.outvars[0])) * math.prod(left[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel, features = shape(equation.invars[1]), parameters["dimension_numbers"].rhs_spec[0]
            total += 2 * math.prod(shape(equation.outvars[0])) * math.prod(kernel) // kernel[features]
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
