"""MATLAB's .mat files: those of versions 4 to 7 by SciPy, which runs no code of theirs; 7.3 is HDF5 and needs h5py."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

HDF5 = b"\x89HDF\r\n\x1a\n"


def load(path: Path, *names: str) -> dict[str, np.ndarray]:
    """The variables of a file, as MATLAB has them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no .mat file, of version 7.3, or lacks one of `names`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        held = scipy.io.loadmat(path, variable_names=list(names))
    except NotImplementedError:
        raise ValueError(f"{path} is of MATLAB 7.3; save it in MATLAB by save(..., '-v7')") from None
    except Exception as error:  # SciPy raises all kinds for bytes that are no .mat file
        raise ValueError(f"{path} is no .mat file: {' '.join(str(error).split())}") from None
    if lacking := [name for name in names if name not in held]:
        raise ValueError(f"{path} must hold {', '.join(names)}, but lacks {', '.join(lacking)}")
    return {name: held[name] for name in names}


def texts(cells: np.ndarray) -> list[str]:
    """The texts of a cell array of texts, whichever way round it lies."""
    return [str(np.asarray(cell).ravel()[0]) for cell in cells.ravel()]


@contextlib.contextmanager
def hdf5(path: Path) -> Iterator[Any]:
    """A file of version 7.3, opened by h5py. MATLAB's arrays lie transposed in it: rows are columns.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no HDF5, or h5py is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        import h5py
    except ImportError:
        raise ValueError(f"{path} is HDF5, which needs h5py: pip install 'facerep_jax[matlab]'") from None
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is no .mat file of version 7.3, which is HDF5")
    with h5py.File(path, "r") as file:
        yield file


def cells(held: Any, name: str) -> list[str]:
    """The texts of a cell array of texts in a file of version 7.3: references to arrays of UTF-16."""
    references = np.asarray(held[name]).ravel()
    return ["".join(map(chr, np.asarray(held[reference]).ravel())) for reference in references]
