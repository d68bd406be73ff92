"""Operations of jax as those of ONNX; each function writes one for inputs that are names of values, or known arrays."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from facerep_jax.inference.onnx_graph import Graph, Known, Name

Write = Callable[..., Any]


def one(operation: str) -> Write:
    """An operation for each number, which repeats its inputs along axes of length 1 by itself."""

    def write(graph: Graph, equation: Any, *inputs: Any) -> Name:
        return thin_if(all(map(is_thin, inputs)), graph.add(operation, *inputs))

    return write


def each(make: Callable[..., Any]) -> Write:
    """Several of these in a row: `make(graph, equation, *inputs)`."""

    def write(graph: Graph, equation: Any, *inputs: Any) -> Name:
        return thin_if(all(map(is_thin, inputs)), make(graph, equation, *inputs))

    return write


def is_thin(value: Any) -> bool:
    """Whether a value leaves it to an operation to repeat it; numbers do."""
    return getattr(value, "thin", False) or (isinstance(value, Known) and value.ndim == 0)


def thin_if(thin: bool, name: Name) -> Name:
    """The name, marked."""
    name.thin = thin
    return name


def like(equation: Any, value: int | float) -> Known:
    """A number of the type of what comes out."""
    return np.asarray(value, equation.outvars[0].aval.dtype)


def cast(graph: Graph, equation: Any, x: Any) -> Name:
    """convert_element_type."""
    from onnx import helper

    return graph.add("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(equation.outvars[0].aval.dtype)))


def power(graph: Graph, equation: Any, x: Any) -> Name:
    """integer_pow."""
    y = equation.params["y"]
    return graph.add("Mul", x, x) if y == 2 else graph.add("Pow", x, like(equation, y))


def rounded(graph: Graph, equation: Any, x: Any) -> Name:
    """To as many bits as bfloat16 has."""
    from onnx import TensorProto

    if (equation.params["exponent_bits"], equation.params["mantissa_bits"]) != (8, 7):
        raise ValueError("the network rounds to another type than bfloat16, which is not written as ONNX")
    return graph.add("Cast", graph.add("Cast", x, to=TensorProto.BFLOAT16), to=TensorProto.FLOAT)


def chosen(graph: Graph, equation: Any, which: Any, *cases: Any) -> Name:
    """select_n, of two."""
    if len(cases) != 2 or equation.invars[0].aval.dtype != bool:
        raise ValueError("the network chooses among more than two values, which is not written as ONNX")
    return graph.add("Where", which, cases[1], cases[0])


def shaped(graph: Graph, equation: Any, x: Any) -> Any:
    """reshape, squeeze and expand_dims."""
    if equation.params.get("dimensions") is not None and equation.primitive.name == "reshape":
        raise ValueError("the network reshapes and transposes at once, which is not written as ONNX")
    return graph.reshaped(x, equation.outvars[0].aval.shape)


def broadcast(graph: Graph, equation: Any, x: Any) -> Any:
    """New axes of length 1; whether they are repeated is left to what comes next."""
    shape, axes = equation.outvars[0].aval.shape, equation.params["broadcast_dimensions"]
    before = equation.invars[0].aval.shape
    thin = [1] * len(shape)
    for axis, length in zip(axes, before, strict=True):
        thin[axis] = length
    value = x if tuple(thin) == tuple(before) else graph.reshaped(x, thin)
    if isinstance(value, Known):
        value = graph.add("Identity", value)
    elif value is x:
        value = Name(x)
    return thin_if(tuple(thin) != tuple(shape) or is_thin(x), value)


def product(graph: Graph, equation: Any, a: Any, b: Any) -> Any:
    """dot_general: axes that are in both, then rows of one and columns of the other, around those that are summed."""
    (sums_a, sums_b), (both_a, both_b) = equation.params["dimension_numbers"]
    shape_a, shape_b = (variable.aval.shape for variable in equation.invars)
    rows = [axis for axis in range(len(shape_a)) if axis not in (*sums_a, *both_a)]
    columns = [axis for axis in range(len(shape_b)) if axis not in (*sums_b, *both_b)]
    a = turned(graph, a, (*both_a, *rows, *sums_a))
    b = turned(graph, b, (*both_b, *sums_b, *columns))
    both = [shape_a[axis] for axis in both_a]

    def length(shape: Any, axes: Any) -> Any:
        total = 1
        for axis in axes:
            total = total * shape[axis]
        return total

    if len(rows) != 1 or len(sums_a) != 1:
        a = graph.reshaped(a, [*both, length(shape_a, rows), length(shape_a, sums_a)])
    if len(columns) != 1 or len(sums_b) != 1:
        b = graph.reshaped(b, [*both, length(shape_b, sums_b), length(shape_b, columns)])
    result = graph.add("MatMul", a, b)
    whole = len(rows) == 1 == len(columns)
    return result if whole else graph.reshaped(result, equation.outvars[0].aval.shape)


def turned(graph: Graph, x: Any, axes: Any) -> Any:
    """A value with its axes in another order."""
    if tuple(axes) == tuple(range(len(axes))):
        return x
    return x.transpose(axes) if isinstance(x, Known) else graph.add("Transpose", x, perm=list(axes))


def cut(graph: Graph, equation: Any, x: Any) -> Any:
    """slice."""
    shape = equation.invars[0].aval.shape
    starts, ends = equation.params["start_indices"], equation.params["limit_indices"]
    steps = equation.params["strides"] or (1,) * len(shape)
    axes = [i for i, n in enumerate(shape) if (starts[i], steps[i]) != (0, 1) or ends[i] != n]
    return sliced(graph, x, axes, [starts[i] for i in axes], [ends[i] for i in axes], [steps[i] for i in axes])


def sliced(graph: Graph, x: Any, axes: Any, starts: Any, ends: Any, steps: Any) -> Any:
    """A part of a value: along some axes, from, to and by so many."""
    return graph.add("Slice", x, *map(graph.numbers, (starts, ends, axes, steps))) if axes else x


def cut_at(graph: Graph, equation: Any, x: Any, *starts: Any) -> Any:
    """dynamic_slice, at places that are known."""
    if not all(isinstance(start, Known) for start in starts):
        raise ValueError("the network cuts at a place that depends on the image, which is not written as ONNX")
    shape, sizes = equation.invars[0].aval.shape, equation.params["slice_sizes"]
    axes = [axis for axis, length in enumerate(shape) if sizes[axis] != length]
    first = [min(max(int(starts[axis]), 0), shape[axis] - sizes[axis]) for axis in axes]
    ends = [start + sizes[axis] for start, axis in zip(first, axes, strict=True)]
    return sliced(graph, x, axes, first, ends, [1] * len(axes))


def gathered(graph: Graph, equation: Any, x: Any, places: Any) -> Any:
    """gather of one part whose place is known, as indexing by numbers is."""
    numbers = equation.params["dimension_numbers"]
    if not isinstance(places, Known) or places.ndim != 1 or numbers.operand_batching_dims:
        raise ValueError("the network takes several parts by their places, which is not written as ONNX")
    starts: list[Any] = [np.asarray(0)] * len(equation.invars[0].aval.shape)
    for axis, place in zip(numbers.start_index_map, places, strict=True):
        starts[axis] = np.asarray(place)
    return graph.reshaped(cut_at(graph, equation, x, *starts), equation.outvars[0].aval.shape)


def divided(graph: Graph, equation: Any, x: Any) -> list[Any]:
    """split"""
    axis, ends = equation.params["axis"], np.cumsum(equation.params["sizes"]).tolist()
    return [sliced(graph, x, [axis], [start], [end], [1]) for start, end in zip([0, *ends], ends, strict=False)]


def stacked(graph: Graph, equation: Any, *parts: Any) -> Any:
    """Values along a new axis."""
    axis = equation.params["axis"]
    return graph.add("Concat", *(graph.add("Unsqueeze", each, graph.numbers([axis])) for each in parts), axis=axis)


def padded(graph: Graph, equation: Any, x: Any, value: Any) -> Any:
    """pad, outwards."""
    config = equation.params["padding_config"]
    if any(low < 0 or high < 0 or inside for low, high, inside in config):
        raise ValueError("the network pads between or less than nothing, which is not written as ONNX")
    pads = [low for low, _, _ in config] + [high for _, high, _ in config]
    return graph.add("Pad", x, graph.numbers(pads), value)


def reduced(operation: str) -> Write:
    """A sum, or another number, over axes."""

    def write(graph: Graph, equation: Any, x: Any) -> Name:
        return graph.add(operation, x, graph.numbers(equation.params["axes"]), keepdims=0)

    return write


def largest(operation: str) -> Write:
    """argmax and argmin, of which the first counts."""

    def write(graph: Graph, equation: Any, x: Any) -> Name:
        (axis,) = equation.params["axes"]
        return cast(graph, equation, graph.add(operation, x, axis=axis, keepdims=0))

    return write


def convolution(graph: Graph, equation: Any, x: Any, kernel: Any) -> Any:
    """conv_general_dilated, not transposed."""
    settings, numbers = equation.params, equation.params["dimension_numbers"]
    if any(n != 1 for n in settings["lhs_dilation"]) or settings["batch_group_count"] != 1:
        raise ValueError("the network has a transposed convolution, which is not written as ONNX")
    pads = [low for low, _ in settings["padding"]] + [high for _, high in settings["padding"]]
    result = graph.add(
        "Conv",
        turned(graph, x, numbers.lhs_spec),
        turned(graph, kernel, numbers.rhs_spec),
        pads=pads,
        strides=list(settings["window_strides"]),
        dilations=list(settings["rhs_dilation"]),
        group=settings["feature_group_count"],
    )
    return turned(graph, result, np.argsort(numbers.out_spec).tolist())


def pooled(graph: Graph, equation: Any, x: Any) -> Any:
    """The largest value of windows over the two axes in the middle."""
    settings = equation.params
    inner = {name: settings[name] for name in ("window_dimensions", "window_strides", "window_dilation")}
    edges, spread = settings["padding"], settings["base_dilation"]
    outside = all(values[0] == values[3] == 1 for values in inner.values()) and {edges[0], edges[3]} == {(0, 0)}
    if len(edges) != 4 or not outside or set(spread) != {1}:
        raise ValueError("the network pools over other axes than rows and columns, which is not written as ONNX")
    window, strides, dilations = (list(values[1:3]) for values in inner.values())
    pads = [edges[1][0], edges[2][0], edges[1][1], edges[2][1]]
    result = graph.add(
        "MaxPool",
        turned(graph, x, (0, 3, 1, 2)),
        kernel_shape=window,
        strides=strides,
        pads=pads,
        dilations=dilations,
    )
    return turned(graph, result, (0, 2, 3, 1))


SIMPLE = {
    "add": "Add",
    "add_any": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "pow": "Pow",
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "and": "And",
    "or": "Or",
    "not": "Not",
    "exp": "Exp",
    "log": "Log",
    "tanh": "Tanh",
    "sqrt": "Sqrt",
    "erf": "Erf",
    "logistic": "Sigmoid",
    "neg": "Neg",
    "abs": "Abs",
    "sin": "Sin",
    "cos": "Cos",
    "sign": "Sign",
    "floor": "Floor",
    "ceil": "Ceil",
    "stop_gradient": "Identity",
    "copy": "Identity",
    "copy_p": "Identity",
}
EACH: Mapping[str, Write] = {
    "ne": lambda graph, equation, a, b: graph.add("Not", graph.add("Equal", a, b)),
    "rsqrt": lambda graph, equation, x: graph.add("Reciprocal", graph.add("Sqrt", x)),
    "square": lambda graph, equation, x: graph.add("Mul", x, x),
    "erfc": lambda graph, equation, x: graph.add("Sub", like(equation, 1), graph.add("Erf", x)),
    "log1p": lambda graph, equation, x: graph.add("Log", graph.add("Add", x, like(equation, 1))),
    "clamp": lambda graph, equation, low, x, high: graph.add("Min", graph.add("Max", x, low), high),
    "integer_pow": power,
    "convert_element_type": cast,
    "reduce_precision": rounded,
    "select_n": chosen,
}
THIN = {*SIMPLE, *EACH, "broadcast_in_dim"}  # which take values that still have to be repeated
BY_NAME: Mapping[str, Write] = {
    **{name: one(operation) for name, operation in SIMPLE.items()},
    **{name: each(make) for name, make in EACH.items()},
    "broadcast_in_dim": broadcast,
    "reshape": shaped,
    "squeeze": shaped,
    "expand_dims": shaped,
    "transpose": lambda graph, equation, x: turned(graph, x, equation.params["permutation"]),
    "dot_general": product,
    "slice": cut,
    "dynamic_slice": cut_at,
    "gather": gathered,
    "split": divided,
    "concatenate": lambda graph, equation, *parts: graph.add("Concat", *parts, axis=equation.params["dimension"]),
    "stack": stacked,
    "pad": padded,
    "reduce_sum": reduced("ReduceSum"),
    "reduce_max": reduced("ReduceMax"),
    "reduce_min": reduced("ReduceMin"),
    "argmax": largest("ArgMax"),
    "argmin": largest("ArgMin"),
    "conv_general_dilated": convolution,
    "reduce_window_max": pooled,
}
