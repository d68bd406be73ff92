"""Floating-point operations of a program, counted on its trace: matrix products and convolutions alone.

XLA's own count takes the body of a scan once, however often it runs. This one multiplies by the length, needs no
device, and is exact for what it counts; additions, norms and activations, a few hundredths of a transformer, are not.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def flops(function: Callable[..., Any], *shapes: Any) -> int:
    """Operations of one call, a multiplication and an addition counting two; `shapes` are arrays or stand for some.

    What is computed again under rematerialisation is counted again: trace with remat "none" for the useful work alone.
    """
    return of_jaxpr(jax.make_jaxpr(function)(*shapes).jaxpr)


def of_jaxpr(jaxpr: Jaxpr) -> int:
    """Operations of a traced program. A loop without a fixed length counts as one pass, a branch as its costliest."""
    total = 0
    for equation in jaxpr.eqns:
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
        else:
            total += sum(inner)
    return total


def inside(parameters: dict[str, Any]) -> Iterator[Jaxpr]:
    """The programs within an equation: bodies of loops, branches, calls."""
    for value in jax.tree.leaves(parameters, is_leaf=lambda x: isinstance(x, ClosedJaxpr | Jaxpr)):
        if isinstance(value, ClosedJaxpr | Jaxpr):
            yield value.jaxpr if isinstance(value, ClosedJaxpr) else value


def shape(variable: Any) -> tuple[int, ...]:
    """The shape of a variable of a program."""
    return variable.aval.shape
