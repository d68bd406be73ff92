"""A function of jax as a model of ONNX, operation by operation.

The function is traced for a batch of any size. What does not depend on its argument is computed here, loops are laid
out in sequence, and each operation that is left becomes one of ONNX, or a few (`onnx_operations`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from facerep_jax.inference.onnx_graph import Graph, Known, Name, stack
from facerep_jax.inference.onnx_operations import BY_NAME, THIN

OPSET, IR = 18, 10  # of 2022 and 2024, so that readers need not be of today
BATCH = "batch"
INSIDE = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # parameters of operations that call a function


def model_of(function: Callable[[Any], Mapping[str, Any]], images: jax.ShapeDtypeStruct, argument: str) -> Any:
    """The function as a model of ONNX.

    Args:
        function: from uint8 images to outputs by name; the first axis of each is the batch.
        images: their shape, whose first length is a symbol.
        argument: what the images are called.

    Raises:
        ValueError: it does something that has no counterpart here, which is named.
    """
    from onnx import TensorProto, checker, helper

    names = list(jax.eval_shape(function, images))

    def listed(x: Any) -> list[Any]:
        outputs = function(x)  # once: a call for each output would write the network as often
        return [outputs[name] for name in names]

    closed = jax.make_jaxpr(listed)(images)
    graph = Graph(argument, images.shape[0])
    outputs = evaluated(graph, closed.jaxpr, [np.asarray(x) for x in closed.consts], [Name(argument)])
    described = []
    for name, value, variable in zip(names, outputs, closed.jaxpr.outvars, strict=True):
        graph.add("Identity", graph.whole(value, variable), name=name)
        kind: Any = variable.aval
        element = helper.np_dtype_to_tensor_dtype(np.dtype(kind.dtype))
        described.append(helper.make_tensor_value_info(name, element, [BATCH, *kind.shape[1:]]))
    given = helper.make_tensor_value_info(argument, TensorProto.UINT8, [BATCH, *images.shape[1:]])
    whole = helper.make_graph(graph.nodes, "facerep_jax", [given], described, graph.constants)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(whole, producer_name="facerep_jax", opset_imports=opset, ir_version=IR)
    checker.check_model(model)
    return model


def evaluated(graph: Graph, jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Write the operations of a function of jax for some arguments; returns its outputs."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def value_of(variable: Any) -> Any:
        kind: Any = variable.aval
        return np.asarray(variable.val, kind.dtype) if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        inputs = [value_of(variable) for variable in equation.invars]
        name, settings = equation.primitive.name, equation.params
        fixed = all(isinstance(n, int) for variable in equation.outvars for n in getattr(variable.aval, "shape", ()))
        inside = next((settings[key] for key in INSIDE if isinstance(settings.get(key), ClosedJaxpr | Jaxpr)), None)
        if name == "scan":
            outputs = unrolled(graph, settings, inputs)
        elif inside is not None:
            within, held = (inside.jaxpr, inside.consts) if isinstance(inside, ClosedJaxpr) else (inside, ())
            outputs = evaluated(graph, within, [np.asarray(x) for x in held], inputs)
        elif fixed and all(isinstance(x, Known) for x in inputs):
            found = equation.primitive.bind(*inputs, **settings)
            outputs = [np.asarray(x) for x in (found if equation.primitive.multiple_results else [found])]
        elif (write := BY_NAME.get(name)) is None:
            raise ValueError(f"the network computes {name!r}, which is not written as ONNX")
        else:
            if name not in THIN:
                inputs = [graph.whole(x, v) for x, v in zip(inputs, equation.invars, strict=True)]
            found = write(graph, equation, *inputs)
            outputs = found if isinstance(found, list) else [found]
        values |= dict(zip(equation.outvars, outputs, strict=True))
    return [value_of(variable) for variable in jaxpr.outvars]


def unrolled(graph: Graph, settings: Mapping[str, Any], inputs: Sequence[Any]) -> list[Any]:
    """A loop, step after step."""
    consts, carried, length = settings["num_consts"], settings["num_carry"], settings["length"]
    closed = settings["jaxpr"]
    held, carry = list(inputs[:consts]), list(inputs[consts : consts + carried])
    rows = inputs[consts + carried :]
    collected: list[list[Any]] = [[] for _ in closed.jaxpr.outvars[carried:]]
    variables = closed.jaxpr.invars[consts : consts + carried]
    for step in reversed(range(length)) if settings["reverse"] else range(length):
        row = [x[step] if isinstance(x, Known) else graph.add("Gather", x, np.int64(step), axis=0) for x in rows]
        outputs = evaluated(graph, closed.jaxpr, [np.asarray(x) for x in closed.consts], [*held, *carry, *row])
        outputs = [graph.whole(x, v) for x, v in zip(outputs, closed.jaxpr.outvars, strict=True)]
        carry = outputs[: len(variables)]
        for kept, value in zip(collected, outputs[carried:], strict=True):
            kept.append(value)
    stacked = [stack(graph, kept[::-1] if settings["reverse"] else kept) for kept in collected]
    return [*carry, *stacked]
