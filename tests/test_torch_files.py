"""Files that PyTorch 2.13 wrote (torch_files/write.py), and hostile ones written byte by byte.

Planted and seen red: strides in bytes; the bound of a storage checked against its count of bytes; the bound of what is
made taken away; a name that is not allowed kept as `Inert`.
"""

import contextlib
import io
import pickle
import pickletools
import struct
import time
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from facerep_jax import torch_files
from facerep_jax.torch_files import Inert

FILES = Path(__file__).parent / "torch_files"
COUNT = np.arange(24, dtype=np.float32)


@pytest.mark.parametrize("name", ["zip.pt", "legacy.pt"])
def test_what_torch_wrote_is_read(name):
    tree = torch_files.read(FILES / name)
    expected = {
        "tied": COUNT,
        "transposed": COUNT.reshape(4, 6).T,
        "slice": COUNT[3:9:2],
        "expanded": np.full((4, 1), 2, np.float32),
        "half": COUNT[:4].astype(np.float16),
        "bf16": COUNT[:4].astype(ml_dtypes.bfloat16),
        "long": np.array(7),
        "bool": np.array([True, False]),
        "complex": np.array([1 + 2j], np.complex64),
        "empty": np.zeros((0, 3), np.float32),
        "parameter": COUNT[:2],
        "uint8": np.arange(3, dtype=np.uint8),
        "array": np.array([[0, 2], [3, 5]], np.float32),
        "scalar": np.float32(0.5),
    }
    for key, value in expected.items():
        np.testing.assert_array_equal(tree[key], value, strict=True)
    assert np.shares_memory(tree["tied"], tree["transposed"])
    assert not tree["tied"].flags.writeable
    state = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}
    assert list(tree["model"]) == [*state, "num_batches_tracked"]
    for key, value in state.items():
        np.testing.assert_array_equal(tree["model"][key], np.full(3, value, np.float32), strict=True)
    assert tree["dtype"] == np.float32
    assert tree["size"] == (1, 2)
    assert tree["set"] == {1, 2}
    assert tree["words"] == ["é", None, True, 1.5, b"\xff\x00"]
    ((box, points, score),) = tree[17]
    np.testing.assert_array_equal(box, np.array([1, 2, 3, 4], np.float32), strict=True)
    assert points.shape == (5, 2)
    assert score == np.float32(0.99)
    args = tree["args"]
    assert (args.name, args.args) == ("argparse.Namespace", ())
    assert (args.state["lr"], args.state["arch"]) == (0.1, "ViT")
    assert (args.state["device"].name, args.state["device"].args) == ("torch.device", ("cpu",))


def test_newer_types_of_numbers_and_torchscript_are_read():
    newer = torch_files.read(FILES / "newer.pt")
    np.testing.assert_array_equal(newer["f8"], COUNT[:4].astype(ml_dtypes.float8_e4m3fn), strict=True)
    np.testing.assert_array_equal(newer["u16"], np.arange(3, dtype=np.uint16), strict=True)
    script = torch_files.read(FILES / "script.pt")
    assert script.name.startswith("__torch__.")
    assert script.state["sizes"] == [1, 2]
    np.testing.assert_array_equal(script.state["weight"], COUNT[:6].reshape(2, 3), strict=True)


def archive(path: Path, pickled: bytes, storages=(bytes(16),), compression=zipfile.ZIP_STORED, **others: bytes):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        for number, content in enumerate(storages):
            file.writestr(f"archive/data/{number}", content)
        for name, content in others.items():
            file.writestr(f"archive/{name}", content)
    return path


def written(value: object) -> bytes:
    """The instructions of a value that pickle knows, without those around them."""
    return pickle.dumps(value, 2)[2:-1]


def called(name: str, *args: bytes) -> bytes:
    """The instructions that call a function, such as `os.system`, with the results of others."""
    module, _, function = name.rpartition(".")
    return b"c" + f"{module}\n{function}\n".encode() + b"(" + b"".join(args) + b"tR"


def program(*instructions: bytes) -> bytes:
    return b"\x80\x02" + b"".join(instructions) + b"."


def tensor(size=(4,), stride=(1,), offset=0, key="0", count=4, kind="FloatStorage") -> bytes:
    pid = b"(" + written("storage") + f"ctorch\n{kind}\n".encode() + written(key) + written("cpu") + written(count)
    no = called("collections.OrderedDict")
    described = (pid + b"tQ", written(offset), written(size), written(stride), written(False), no)
    return called("torch._utils._rebuild_tensor_v2", *described)


def test_a_file_written_byte_by_byte_is_read(tmp_path):
    numbers = np.array([1, 2, 3, 4], ">f4")
    big = archive(tmp_path / "big.pt", program(tensor((2, 2), (1, 2))), [numbers.tobytes()], byteorder=b"big")
    np.testing.assert_array_equal(torch_files.read(big), np.array([[1, 3], [2, 4]], np.float32))


def dtype(text: str) -> bytes:
    return called("numpy.dtype", written(text), written(False), written(True))


def array_of(text: str, shape: tuple[int, ...], content: bytes) -> bytes:
    empty = called("numpy.core.multiarray._reconstruct", b"cnumpy\nndarray\n", written((0,)), written("b"))
    encoded = called("_codecs.encode", written(content.decode("latin1")), written("latin1"))
    return empty + b"(" + written(1) + written(shape) + dtype(text) + written(False) + encoded + b"tb"


def many(times: int) -> bytes:
    """A text of 100 kB, made into bytes again and again."""
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x09" + b"0"
    return text + b"]" + times * (called("_codecs.encode", b"h\x09", written("latin1")) + b"a")


HOSTILE = {
    "a command": (called("os.system", written("touch RAN")), "asks for os.system, which is not allowed"),
    "a command in numpy": (called("numpy.testing._private.utils.runstring"), "asks for numpy.testing._private.utils.r"),
    "eval": (called("builtins.eval", written("1")), "asks for builtins.eval, which is not allowed"),
    "getattr": (called("builtins.getattr", written(""), written("join")), "asks for builtins.getattr"),
    "an import by stack": (written("posix") + written("system") + b"\x93", "asks for posix.system"),
    "a class by INST": (b"(" + written("touch RAN") + b"ios\nsystem\n", "an instruction that torch.save does not"),
    "a registered extension": (b"\x82\x01", "an instruction that torch.save does not"),
    "a call of a text": (written("os") + b")R", "calls a str"),
    "attributes of a list": (b"]" + written({"append": 1}) + b"b", "sets the state of list"),
    "attributes of what it may call": (b"ctorch._utils\n_rebuild_tensor_v2\n}b", "sets the state of Inert"),
    "beyond its storage": (tensor((5,)), "lies outside of its storage of 4 numbers"),
    "a stride beyond it": (tensor((2, 2), (3, 1)), "lies outside of its storage"),
    "before its storage": (tensor(offset=-1), "has strides"),
    "a negative stride": (tensor(stride=(-1,), offset=3), "has strides"),
    "a storage too short": (tensor(count=5), "storage 0 has 4 of 5 numbers"),
    "a storage that is not there": (tensor(key="7"), "archive/data/7 is missing"),
    "a path for a key": (tensor(key="../0"), "refers to 'storage', which is not there"),
    "quantised numbers": (tensor(kind="QInt8Storage"), "QInt8"),
    "numbers that overflow": (
        called(
            "torch._utils._rebuild_tensor_v2",
            b"(" + written("storage") + b"ctorch\nFloatStorage\n" + written("0") + written("cpu") + written(4) + b"tQ",
            written(0),
            b"(" + 2 * called("numpy.core.multiarray.scalar", dtype("i8"), written(b"\0\0\0\0\1\0\0\0")) + b"t",
            written((2**31, 2**31)),
        ),
        "lies outside of its storage",
    ),
    "shown a billion times": (tensor((2**30,), (0,)), "too often"),
    "an array of objects": (array_of("O8", (1,), bytes(8)), "an array of 'O8', only numbers are allowed"),
    "an array that is too short": (
        array_of("f4", (2**40,), bytes(8)),
        r"8 bytes are no array of shape \(1099511627776,\)",
    ),
    "one text again and again": (many(2000), "makes more than it holds"),
    "no end": (b"(", "pop from empty list"),
}


@pytest.mark.parametrize(("instructions", "message"), HOSTILE.values(), ids=HOSTILE)
def test_nothing_that_is_not_allowed_is_done(tmp_path, monkeypatch, instructions, message):
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "a.pt", program(instructions))
    with pytest.raises(ValueError, match=message) as told:
        torch_files.read(path)
    assert str(told.value).startswith(f"{path} cannot be read as a file of torch.save: ")
    assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == [path]


def test_a_high_number_of_the_memo_takes_no_memory(tmp_path):
    path = archive(tmp_path / "a.pt", program(written(5), b"r\xff\xff\xff\xff"))
    start = time.monotonic()
    assert torch_files.read(path) == 5
    assert time.monotonic() - start < 5  # C's unpickler would ask for 64 GB


def test_further_classes_are_kept_as_names_if_they_are_asked_for(tmp_path):
    path = archive(tmp_path / "a.pt", program(called("my.module.Net", tensor()), written({"depth": 2}), b"b"))
    with pytest.raises(ValueError, match=r"asks for my\.module\.Net, which is not allowed"):
        torch_files.read(path)
    net = torch_files.read(path, inert=r"my\.module\..*")
    assert isinstance(net, Inert)
    assert (net.name, net.state) == ("my.module.Net", {"depth": 2})
    np.testing.assert_array_equal(net.args[0], np.zeros(4, np.float32))


def test_damaged_and_other_files_are_named(tmp_path):
    whole = (FILES / "zip.pt").read_bytes()
    legacy = (FILES / "legacy.pt").read_bytes()
    path = tmp_path / "a.pt"
    for content, message in [
        (b"", "it is empty"),
        (b"hello, this is text", "cannot be read as"),
        (pickle.dumps({"a": 1}), "does not begin as torch.save begins"),
        (whole[: len(whole) // 2], "not a zip file"),
        (legacy[: len(legacy) - 20], "ends in storage"),
        (legacy[:100], "cannot be read as"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            torch_files.read(path)
    archive(path, program(tensor()), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"data\.pkl is compressed, which torch.save does not do"):
        torch_files.read(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("word/document.xml", "x")
    with pytest.raises(ValueError, match=r"a zip archive with one NAME/data\.pkl is expected"):
        torch_files.read(path)
    with pytest.raises(FileNotFoundError):
        torch_files.read(tmp_path / "b.pt")


def test_a_damaged_byte_is_a_value_error_or_another_number(tmp_path):
    """Of the archive's pickle, each byte in turn."""
    whole = (FILES / "newer.pt").read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        pickled = next(file.read(name) for name in file.namelist() if name.endswith("data.pkl"))
    assert sum(1 for _ in pickletools.genops(pickled)) > 20
    path = tmp_path / "a.pt"
    for place in range(len(pickled)):
        damaged = pickled[:place] + bytes([pickled[place] ^ 0x15]) + pickled[place + 1 :]
        archive(path, damaged, [bytes(4), bytes(6)])
        with contextlib.suppress(ValueError):
            torch_files.read(path)


def test_a_plain_pickle_is_read_by_the_same_rules(tmp_path):
    path = tmp_path / "a.bin"
    content = ([b"\xff\xd8 a JPEG", np.arange(3, dtype=np.uint8)], [True, False])
    for protocol in range(5):
        path.write_bytes(pickle.dumps(content, protocol))
        (first, second), same = torch_files.read_pickle(path)
        assert first == content[0][0]
        np.testing.assert_array_equal(second, content[0][1])
        assert same == [True, False]
    python2 = program(b"U" + bytes([3]) + b"\xff\xd8a")
    path.write_bytes(python2)
    assert torch_files.read_pickle(path) == b"\xff\xd8a"
    path.write_bytes(program(called("os.system", written("touch RAN"))))
    with pytest.raises(ValueError, match=r"cannot be read as a pickle: it asks for os\.system"):
        torch_files.read_pickle(path)
