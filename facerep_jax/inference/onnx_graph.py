"""A graph of ONNX while it is written: its operations, and its constants, each once."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Known = np.ndarray  # a value that does not depend on the argument


class Name(str):
    """The name of a value in the graph. A thin one still has to be repeated along axes of length 1."""

    thin = False


class Graph:
    """A graph that is being written.

    `shape` of any value may have one axis that is the batch, or a multiple of it; all others are numbers.
    """

    def __init__(self, argument: str, batch: Any):
        self.argument, self.batch = argument, batch
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._known: dict[Any, tuple[Known, Name]] = {}
        self._size: Name | None = None

    def add(self, operation: str, *inputs: Any, name: str = "", **attributes: Any) -> Name:
        """Append an operation of ONNX; returns the name of its output."""
        from onnx import helper

        output = Name(name or f"{operation.lower()}_{len(self.nodes)}")
        given = [self.named(each) for each in inputs]
        self.nodes.append(helper.make_node(operation, given, [output], output, **attributes))
        return output

    def named(self, value: Any) -> str:
        """The name of a value; a known one becomes a constant of the graph, once."""
        if isinstance(value, str):
            return value
        from onnx import numpy_helper

        array = np.asarray(value)
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size < 64 else id(value)
        if key not in self._known:
            name = Name(f"constant_{len(self.constants)}")
            self.constants.append(numpy_helper.from_array(array, name))
            self._known[key] = value, name  # held, so that no other array gets its id
        return self._known[key][1]

    def numbers(self, values: Sequence[int]) -> Known:
        """A list of whole numbers, as inputs of operations are."""
        return np.asarray(values, np.int64)

    def reshaped(self, value: Any, shape: Sequence[Any]) -> Any:
        """A value in another shape."""
        if isinstance(value, Known) and all(isinstance(n, int) for n in shape):
            return value.reshape(shape)
        return self.add("Reshape", value, self.numbers([n if isinstance(n, int) else -1 for n in shape]))

    def repeated(self, value: Any, shape: Sequence[Any]) -> Name:
        """A value repeated along its axes of length 1, to a shape."""
        if all(isinstance(n, int) for n in shape):
            return self.add("Expand", value, self.numbers(shape))
        if self._size is None:
            self._size = self.add("Shape", self.argument, start=0, end=1)
        parts: list[Any] = [self.numbers([n]) if isinstance(n, int) else None for n in shape]
        for place, n in enumerate(shape):
            if parts[place] is None:
                if n != self.batch:
                    raise ValueError(f"a value is repeated {n} times, where b is the batch; only b is written as ONNX")
                parts[place] = self._size
        return self.add("Expand", value, self.add("Concat", *parts, axis=0))

    def whole(self, value: Any, variable: Any) -> Any:
        """A value in the shape that it has in jax."""
        return self.repeated(value, variable.aval.shape) if getattr(value, "thin", False) else value


def stack(graph: Graph, values: Sequence[Any]) -> Any:
    """Values along a new first axis."""
    if all(isinstance(value, Known) for value in values):
        return np.stack(values)
    return graph.add("Concat", *(graph.add("Unsqueeze", each, graph.numbers([0])) for each in values), axis=0)
