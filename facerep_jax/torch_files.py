"""Files that torch.save wrote, read without torch: tensors become NumPy arrays, and nothing that a file names is run.

Such a file is a pickle beside the bytes of its tensors. A pickle is a program; this reader gives its instructions a
meaning of its own: they can build numbers, texts, lists, dicts, arrays, and `Inert` objects, which are names with data.
Whatever else a file asks for is refused by name.

Source: torch/serialization.py and torch/_utils.py of PyTorch 0.4 to 2.9, both of its formats: a zip archive that is not
compressed, and the older one of five pickles followed by the tensors. Archives of TorchScript have the first.
"""

import contextlib
import dataclasses
import io
import math
import operator
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C  # begins the older format
VERSION = 1001  # follows it
LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a file in a zip: signature, lengths of its name and of what follows that
EXPANDED = (
    1 << 24
)  # numbers that a tensor may show more than its storage holds: a broadcast one has no memory of its own
NUMBERS = re.compile(r"[biufc]\d+|bool")  # NumPy's names of the types that are numbers
BROKEN = (
    *(pickle.UnpicklingError, EOFError, struct.error, zipfile.BadZipFile, UnicodeError, MemoryError, OverflowError),
    *(ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError, NotImplementedError),
)
REFUSED = (pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER)
STORAGES = {
    "Double": np.float64,
    "Float": np.float32,
    "Half": np.float16,
    "BFloat16": ml_dtypes.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
    "ComplexFloat": np.complex64,
    "ComplexDouble": np.complex128,
    "Untyped": np.uint8,
}
NEWLINE, LINE, LINES = 10, -16, -17
# What follows an instruction: so many bytes, lines, or, if negative, a length of so many bytes and as many more.
LENGTHS = {
    **dict.fromkeys(b"()]}.0l2NtaesubRQ\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x92", 0),
    **dict.fromkeys(b"Khq\x80", 1),
    **dict.fromkeys(b"M", 2),
    **dict.fromkeys(b"Jjr", 4),
    **dict.fromkeys(b"G", 8),
    **dict.fromkeys(b"UC\x8a\x8c", -1),
    **dict.fromkeys(b"XTB\x8b", -4),
    **dict.fromkeys(b"\x8d\x8e", -8),
    **dict.fromkeys(b"c", LINES),
}
DTYPES = {
    **{name: np.dtype(name) for name in ("float64", "float32", "float16", "complex64", "complex128", "bool")},
    **{f"{sign}int{bits}": np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")},
}
DTYPES |= {"double": DTYPES["float64"], "float": DTYPES["float32"], "half": DTYPES["float16"], "long": DTYPES["int64"]}
# Names that stand for data: how a run was started, and where its tensors lay.
INERT = re.compile(
    r"torch\.(device|Generator|\w*Storage|storage\.\w*Storage)|argparse\.Namespace|types\.SimpleNamespace"
    r"|pathlib\.(Pure)?(Posix|Windows)?Path|builtins\.(int|float|str|list|dict)|numpy\.(dtype|ndarray)|__torch__\..*"
)


@dataclasses.dataclass(eq=False)
class Inert:
    """An object of a file that is kept as a name with data: what it would be built from, were it built."""

    name: str  # MODULE.NAME of its class
    args: tuple[Any, ...] | None = None  # None if the file names the class alone
    state: Any = None  # mostly its attributes by name


def read(path: Path, inert: str = "") -> Any:
    """What a file of torch.save holds: dicts, lists, tuples, numbers, texts, arrays, and `Inert` objects.

    Arrays are read-only and mapped into memory, so that a tensor that nobody looks at is not read. Tensors that share a
    storage share memory; whether a tensor is a parameter or needs a gradient is left out.

    Args:
        inert: a regular expression of further classes, such as r"my_package\\..*", whose objects become `Inert`.

    Raises:
        ValueError: the file is of another kind, damaged, or asks for what is not allowed, which is named.
    """
    with _one_line(path, "a file of torch.save"), open(path, "rb") as file:
        start = file.read(4)
        file.seek(0)
        if not start:
            raise ValueError("it is empty")
        mapped = np.asarray(np.memmap(path, np.uint8, "r"))
        return _of_zip(file, mapped, inert) if start == b"PK\3\4" else _of_pickles(file, mapped, inert)


def visit(path: Path, each: Callable[[Any, Any], None], inert: str = "") -> None:
    """Calls a function with each key and value of the dict that a file of torch.save holds, and keeps none of them.

    Memory is that of a thousand items. It takes about a minute for a hundred million bytes.

    Raises:
        ValueError: as `read`, or the file holds something else than a dict; `each` may have been called before.
    """
    with _one_line(path, "a file of torch.save that holds a dict"), open(path, "rb") as file:
        mapped = np.asarray(np.memmap(path, np.uint8, "r"))
        if file.read(4) == b"PK\3\4":
            with zipfile.ZipFile(file) as archive:
                entries = [entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]
                content = _content(entries[0], mapped)
            start = content.ctypes.data - mapped.ctypes.data
        else:
            file.seek(0)
            for _ in range(3):  # what comes before the tree in the older format
                _Reader(file, mapped.size, inert).load()
            start = file.tell()
        file.seek(start)
        if _Visitor(file, mapped.size, inert, each, _fetched(memoryview(mapped[start:].data))).load() != {}:
            raise ValueError("a dict is expected")


def read_pickle(path: Path, inert: str = "") -> Any:
    """What a plain pickle holds, by the same rules; texts of Python 2 are bytes.

    Raises:
        ValueError: as `read`.
    """
    with _one_line(path, "a pickle"), open(path, "rb") as file:
        return _Reader(file, path.stat().st_size, inert, encoding="bytes").load()


@contextlib.contextmanager
def _one_line(path: Path, kind: str) -> Iterator[None]:
    """Makes one ValueError, with the file's path, of whatever a damaged file leads to."""
    try:
        yield
    except BROKEN as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} cannot be read as {kind}: {what}") from error


def _of_zip(file: io.BufferedIOBase, mapped: np.ndarray, inert: str) -> Any:
    """What a zip archive holds: ROOT/data.pkl, whose tensors are ROOT/data/0, ROOT/data/1, ..."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        roots = [
            name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl") and name.count("/") == 1
        ]
        if len(roots) != 1:
            raise ValueError("a zip archive with one NAME/data.pkl is expected")
        (root,) = roots

        def content(name: str) -> np.ndarray:
            if root + name not in entries:
                raise ValueError(f"{root + name} is missing")
            return _content(entries[root + name], mapped)

        big = f"{root}byteorder" in entries and content("byteorder").tobytes() == b"big"

        def storage(key: str, dtype: np.dtype) -> np.ndarray:
            return _numbers(content(f"data/{key}"), dtype.newbyteorder(">") if big else dtype)

        content("data.pkl")  # is not compressed, so that a small file cannot be a large one
        return _Reader(io.BytesIO(archive.read(f"{root}data.pkl")), mapped.size, inert, storage).load()


def _content(entry: zipfile.ZipInfo, mapped: np.ndarray) -> np.ndarray:
    """The bytes of a file of an archive, where they lie."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.compress_size != entry.file_size:
        raise ValueError(f"{entry.filename} is compressed, which torch.save does not do")
    signature, name, extra = LOCAL_HEADER.unpack_from(mapped.data, entry.header_offset)
    start = entry.header_offset + LOCAL_HEADER.size + name + extra
    if signature != b"PK\3\4" or start + entry.file_size > mapped.size:
        raise ValueError(f"{entry.filename} is damaged")
    return mapped[start : start + entry.file_size]


def _of_pickles(file: io.BufferedIOBase, mapped: np.ndarray, inert: str) -> Any:
    """What the older format holds: magic number, version, machine, tree, keys of storages; then each storage."""

    def reader(storage: Storage | None = None) -> _Reader:
        return _Reader(file, mapped.size, inert, storage)

    if reader().load() != MAGIC:
        raise ValueError("it does not begin as torch.save begins")
    if (version := reader().load()) != VERSION:
        raise ValueError(f"its version is {version}, {VERSION} is expected")
    big = not reader().load().get("little_endian", True)
    start = file.tell()
    kinds: dict[str, np.dtype] = {}
    places: dict[str, np.ndarray] = {}
    reader(kinds.__setitem__).load()  # the storages lie behind the tree, whose length only its end tells
    keys = reader().load()
    place = file.tell()
    for key in keys:
        count = int.from_bytes(mapped[place : place + 8], "big" if big else "little", signed=True)
        end = place + 8 + count * kinds[key].itemsize
        if count < 0 or end > mapped.size:
            raise ValueError(f"it ends in storage {key}")
        places[key], place = mapped[place + 8 : end], end
    file.seek(start)
    return reader(lambda key, dtype: _numbers(places[key], dtype.newbyteorder(">") if big else dtype)).load()


def _numbers(content: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Bytes as numbers, where they lie; in the older format, that is anywhere."""
    if content.size % dtype.itemsize:
        raise ValueError(f"{content.size} bytes are no numbers of {dtype.itemsize}")
    return content.view(dtype)


Storage = Callable[[str, np.dtype], np.ndarray | None]  # key, type -> numbers, or None while they are not known


class _Reader(pickle._Unpickler):
    """A pickle read with its own meaning of each instruction that would import, call or set something.

    Python's unpickler, not C's: the latter keeps what a file numbers in a table as long as the highest number, so that
    a few bytes can ask for 64 GB.
    """

    def __init__(
        self, file: io.BufferedIOBase, size: int, inert: str, storage: Storage | None = None, encoding: str = "ASCII"
    ):
        super().__init__(file, encoding=encoding)
        self.stack: list[Any]
        self._inert, self._storage = re.compile(inert or r"(?!)"), storage
        self._left = 2 * size + (1 << 20)  # bytes that may still be made: a file can name one text a million times

    def find_class(self, module: str, name: str) -> Any:
        """A name of the file: a type of numbers, or an `Inert` that `load_reduce` may build."""
        full = f"{module}.{name}".replace("numpy.core", "numpy._core").replace("__builtin__.", "builtins.")
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if full not in BUILT and not INERT.fullmatch(full) and not self._inert.fullmatch(full):
            raise ValueError(f"it asks for {module}.{name}, which is not allowed")
        return Inert(full)

    def persistent_load(self, pid: Any) -> Any:
        """The storage of a tensor, and where in it a view begins and ends; None while storages are not known yet."""
        kind, storage, key, _, count, *view = pid
        if kind != "storage" or self._storage is None or not isinstance(storage, Inert) or not str(key).isalnum():
            raise ValueError(f"it refers to {kind!r}, which is not there")
        name = storage.name.rpartition(".")[2].removesuffix("Storage")
        dtype = np.dtype(STORAGES[name])
        numbers = self._storage(str(key), dtype)
        if numbers is not None and numbers.size < count:
            raise ValueError(f"storage {key} has {numbers.size} of {count} numbers")
        if view and view[0] is not None and numbers is not None:
            _, start, length = view[0]
            if not 0 <= start <= start + length <= numbers.size:
                raise ValueError(f"a view lies outside of storage {key}")
            return _Numbers(numbers[start : start + length])
        return _Numbers(numbers if numbers is None else numbers[:count])

    def _reduce(self, what: Any, args: Any, keywords: Any = None) -> Any:
        if not isinstance(what, Inert) or what.args is not None or not isinstance(args, tuple) or keywords:
            raise ValueError(f"it calls a {type(what).__name__}")
        made = BUILT[what.name](*args) if what.name in BUILT else Inert(what.name, args)
        self._count(len(made) if isinstance(made, bytes | dict | set | frozenset) else 0)
        return made

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError("it makes more than it holds")

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._reduce(self.stack[-1], args)

    def load_newobj_ex(self) -> None:
        keywords, args = self.stack.pop(), self.stack.pop()
        self.stack[-1] = self._reduce(self.stack[-1], args, keywords)

    def load_build(self) -> None:
        state = self.stack.pop()
        built = self.stack[-1]
        if isinstance(built, Inert) and built.args is not None:
            built.state = state
        elif isinstance(built, np.ndarray) and built.flags.owndata and not built.size:
            _set_array(built, *state)
            self._count(built.nbytes)
        elif not isinstance(built, dict):  # a state dict's versions of modules are left out
            raise ValueError(f"it sets the state of {type(built).__name__}")

    def load_refused(self) -> None:
        raise ValueError("it uses an instruction that torch.save does not")

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_reduce,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BUILD[0]: load_build,
        **dict.fromkeys((code[0] for code in REFUSED), load_refused),
    }


class _Visitor(_Reader):
    """A pickle of a dict whose items are handed on, and forgotten."""

    def __init__(
        self, file: io.BufferedIOBase, size: int, inert: str, each: Callable[[Any, Any], None], fetched: set[int]
    ):
        super().__init__(file, size, inert)
        self._each, self._fetched = each, fetched
        self.memo: dict[int, Any]
        self.metastack: list[Any]
        self.read: Callable[[int], bytes]
        self.pop_mark: Callable[[], list[Any]]

    def _remember(self, number: int) -> None:
        if number in self._fetched:
            self.memo[number] = self.stack[-1]

    def load_binput(self) -> None:
        self._remember(self.read(1)[0])

    def load_long_binput(self) -> None:
        self._remember(int.from_bytes(self.read(4), "little"))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list[Any]) -> None:
        held = self.stack[-1]
        if len(self.stack) > 1 or self.metastack:
            held.update(zip(items[::2], items[1::2], strict=True))
        elif type(held) is not dict:
            raise ValueError("a dict is expected")
        else:
            for key, value in zip(items[::2], items[1::2], strict=True):
                self._each(key, value)

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **_Reader.dispatch,
        pickle.BINPUT[0]: load_binput,
        pickle.LONG_BINPUT[0]: load_long_binput,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
    }


def _fetched(pickled: memoryview) -> set[int]:
    """The numbers under which a pickle fetches what it has numbered before. Others need not be remembered."""
    found, place = set(), 0
    while (code := pickled[place]) != pickle.STOP[0]:
        place += 1
        if code == pickle.BINGET[0]:
            found.add(pickled[place])
        elif code == pickle.LONG_BINGET[0]:
            found.add(int.from_bytes(pickled[place : place + 4], "little"))
        elif code not in LENGTHS:
            raise ValueError(f"it uses the instruction {bytes([code])!r}, which torch.save does not")
        length = LENGTHS[code]
        if length >= 0:
            place += length
        elif length == LINE:
            while pickled[place] != NEWLINE:
                place += 1
            place += 1
        elif length == LINES:
            for _ in range(2):
                while pickled[place] != NEWLINE:
                    place += 1
                place += 1
        else:
            place += -length + int.from_bytes(pickled[place : place - length], "little")
    return found


@dataclasses.dataclass(eq=False)
class _Numbers:
    """The numbers of a storage; None while they are not known yet."""

    values: np.ndarray | None


def _tensor(storage: _Numbers, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray | None:
    """A tensor that a file describes, its strides in numbers; the rest of its arguments is of gradients."""
    if (values := storage.values) is None:
        return None
    # Python's integers, which do not overflow: NumPy would read whatever lies beyond a storage.
    offset, size, stride = operator.index(offset), tuple(map(operator.index, size)), tuple(map(operator.index, stride))
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise ValueError(f"a tensor of size {size} has strides {stride}")
    if not (count := math.prod(size)):
        return np.empty(size, values.dtype)
    if offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) >= values.size:
        raise ValueError(f"a tensor of size {size} lies outside of its storage of {values.size} numbers")
    if count > values.size + EXPANDED:
        raise ValueError(f"a tensor of size {size} shows its storage of {values.size} numbers too often")
    strides = [step * values.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(values[offset:], size, strides, writeable=False)


def _tensor_of(
    storage: _Numbers, offset: Any, size: Any, stride: Any, gradient: Any, hooks: Any, dtype: np.dtype, *_: Any
) -> np.ndarray | None:
    """A tensor whose storage is of bytes, as torch saves its newer types."""
    values = None if storage.values is None else _numbers(storage.values, dtype)
    return _tensor(_Numbers(values), offset, size, stride)


def _restored(value: Any, *_: Any) -> Any:
    """What TorchScript says the type of, or lists, and what a parameter is made of."""
    return value


def _empty(subtype: Inert, shape: Any, code: Any) -> np.ndarray:
    """The array that the next instruction fills."""
    if not isinstance(subtype, Inert) or subtype.name != "numpy.ndarray":
        raise ValueError(f"it asks for an array of class {subtype!r}")
    return np.empty(0, np.uint8)


def _dtype(described: Any) -> np.dtype:
    """The type of NumPy that a file describes, one of numbers."""
    if not isinstance(described, Inert) or described.name != "numpy.dtype" or not described.args:
        raise ValueError(f"it asks for numbers of type {described!r}")
    text = described.args[0]
    text = text.decode() if isinstance(text, bytes) else text
    if not isinstance(text, str) or not NUMBERS.fullmatch(text):
        raise ValueError(f"it asks for an array of {text!r}, only numbers are allowed")
    big = described.state is not None and described.state[1] in (">", b">")
    return np.dtype(text).newbyteorder(">") if big else np.dtype(text)


def _bytes(value: Any) -> bytes:
    """Bytes, which pickles of Python 2 hold as texts."""
    value = value.encode("latin1") if isinstance(value, str) else value
    if not isinstance(value, bytes):
        raise ValueError(f"bytes are expected, not {type(value).__name__}")
    return value


def _set_array(array: np.ndarray, version: Any, shape: Any, dtype: Any, fortran: Any, content: Any) -> None:
    """Fills an array of NumPy, which its file may refer to already."""
    numbers, content, shape = _dtype(dtype), _bytes(content), tuple(map(operator.index, shape))
    if min(shape, default=0) < 0 or math.prod(shape) * numbers.itemsize != len(content):
        raise ValueError(f"{len(content)} bytes are no array of shape {shape} of {numbers}")
    array.__setstate__((1, shape, numbers, bool(fortran), content))  # type: ignore[arg-type]


def _scalar(dtype: Any, content: Any) -> Any:
    return np.frombuffer(_bytes(content), _dtype(dtype))[0]


def _encoded(text: str, encoding: str) -> bytes:
    """Bytes, as Python 3 writes them for Python 2."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"it encodes a text as {encoding!r}")
    return text.encode(encoding)


# Names that a file may call, and what that does here.
BUILT: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": dict,
    "collections.defaultdict": lambda factory=None, items=(): dict(items),
    "collections.Counter": dict,
    "torch.Size": tuple,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.complex": complex,
    "_codecs.encode": _encoded,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of,
    "torch._utils._rebuild_parameter": _restored,
    "torch._utils._rebuild_parameter_with_state": _restored,
    "torch.jit._pickle.restore_type_tag": _restored,
    **{f"torch.jit._pickle.build_{kind}list": _restored for kind in ("int", "double", "bool", "tensor")},
    "numpy._core.multiarray._reconstruct": _empty,
    "numpy._core.multiarray.scalar": _scalar,
}
