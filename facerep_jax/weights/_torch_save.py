"""Files that torch.load reads, written without torch; this module is no layout itself.

Source: torch/serialization.py of PyTorch 2.13: a zip archive that is not compressed, of a pickle and of the bytes of
each tensor. It holds dicts, texts, numbers and tensors only, which `weights_only=True` allows.
"""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage", "uint8": "ByteStorage"}


class _Global:
    """A name that the reader looks up."""

    def __init__(self, module: str, name: str):
        self.line = f"{module}\n{name}\n".encode()


class _Storage:
    """The numbers of a tensor, which lie in a file of their own."""

    def __init__(self, key: int, array: np.ndarray):
        self.key, self.array = key, array


class _Pickler(pickle._Pickler):
    """A pickler that writes arrays as torch's tensors and keeps their numbers aside."""

    write: Callable[[bytes], Any]
    save: Callable[[Any], None]

    def __init__(self, file: io.BytesIO):
        super().__init__(file, protocol=2)
        self.storages: list[np.ndarray] = []

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _Storage):
            return None
        kind = _Global("torch", STORAGES[obj.array.dtype.name])
        return "storage", kind, str(obj.key), "cpu", obj.array.size

    def save_global_name(self, obj: _Global) -> None:
        self.write(pickle.GLOBAL + obj.line)

    def save_array(self, obj: np.ndarray) -> None:
        array = np.ascontiguousarray(obj).reshape(obj.shape)
        storage = _Storage(len(self.storages), array)
        self.storages.append(array)
        strides = tuple(step // array.itemsize for step in array.strides)
        self.save(_Global("torch._utils", "_rebuild_tensor_v2"))
        self.write(pickle.MARK)
        for part in (storage, 0, array.shape, strides, False):
            self.save(part)
        self.save(_Global("collections", "OrderedDict"))  # of hooks, of which there are none
        self.write(pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.TUPLE + pickle.REDUCE)

    dispatch: ClassVar[dict[type, Callable[..., None]]] = {
        **pickle._Pickler.dispatch,
        np.ndarray: save_array,
        _Global: save_global_name,
    }


def save(tree: Any, path: Path) -> None:
    """Write a tree of dicts, texts, numbers and arrays; raises ValueError for an array of another type than torch's."""
    content = io.BytesIO()
    pickler = _Pickler(content)
    try:
        pickler.dump(tree)
    except KeyError as error:
        raise ValueError(f"arrays of type {error} are not written for torch") from None
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", content.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, array in enumerate(pickler.storages):
            archive.writestr(f"archive/data/{key}", array.astype(array.dtype.newbyteorder("<")).tobytes())
        archive.writestr("archive/version", "3\n")
