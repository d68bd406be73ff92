"""Execute notebooks and keep what comes out in them, as `make notebooks` does.

python notebooks/execute.py NOTEBOOK...

Each runs in a folder of its own that is removed afterwards, so that it meets nothing of an earlier run. One that fails
keeps its file as it was, and its traceback is shown.
"""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from tqdm import tqdm

from facerep_jax.files import write

TIMEOUT = 1800  # seconds for one cell
METADATA = {  # what a kernel writes here is of this machine
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path: Path) -> None:
    """Run a notebook's cells in order and write it back with their outputs."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder, tqdm(notebook.cells, path.name, unit=" cells", disable=None) as bar:
        NotebookClient(
            notebook,
            timeout=TIMEOUT,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            on_cell_complete=lambda cell, cell_index: bar.update(cell_index + 1 - bar.n),
        ).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    nbformat.validate(notebook)
    write(path, nbformat.writes(notebook) + "\n")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        execute(Path(name))
