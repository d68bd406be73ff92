"""The committed notebooks: valid, executed, of no machine, and running.

Planted and seen red: a cell without its outputs, cells executed out of order, an error or a warning among the outputs,
a path of a machine in an output, a cell that does not parse, a long cell, a broken link, a guard turned round, pictures
four times as large, a kernel's metadata, a parameter renamed.
"""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MEGABYTE = 1_000_000
HERE = "|".join(re.escape(str(folder)) for folder in (ROOT, sys.prefix, Path.home()))
MACHINE = re.compile(rf"(?<![\w.:/])(?:{HERE}|/(?:home|root|Users|tmp|opt|usr|var|content))/")  # this one or another
LINES = 16  # of a cell, imports and blank lines left out
TINY = {  # notebook -> settings for its cell tagged "parameters"
    "01_faces_to_representation": {"FACES": 64, "STEPS": 4, "LABELLED": 60, "SUBSETS": (0, 1)},
    "02_is_it_better_than_farl": {"LABELLED": 60, "SUBSETS": (0,)},
}
SHOWN = {  # what it then shows
    "01_faces_to_representation": ("pretrain_4", "random encoder"),
    "02_is_it_better_than_farl": ("layout farl", "yours against FaRL: "),
}


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parsed(cell):
    """The cell's syntax tree; IPython's `%pip` becomes a call first."""
    return ast.parse(TransformerManager().transform_cell(cell.source))


def texts(cell):
    """What a reader of the cell can see, pictures left out."""
    yield cell.source
    for output in cell.get("outputs", ()):
        yield output.get("text", "")
        yield from (text for kind, text in output.get("data", {}).items() if kind.startswith("text/"))


def with_settings(notebook, settings):
    """The notebook with other values for assignments of its parameters cell."""
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    names = [target.id for line in parsed(cell).body for target in line.targets]
    if unknown := set(settings) - set(names):
        raise ValueError(f"the parameters cell sets {', '.join(names)}, not {', '.join(sorted(unknown))}")
    cell.source += "\n" + "\n".join(f"{name} = {value!r}" for name, value in settings.items())
    return notebook


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def test_there_are_notebooks_and_each_has_tiny_settings():
    assert {path.stem for path in NOTEBOOKS} == set(TINY)


def test_it_is_valid_and_its_cells_parse(path, notebook):
    nbformat.validate(json.loads(path.read_text()))
    for cell in code_cells(notebook):
        parsed(cell)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"


def test_its_cells_are_short_and_it_begins_with_words(notebook):
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    for cell in code_cells(notebook):
        lines = [line for line in cell.source.splitlines() if line and not line.startswith(("import ", "from "))]
        assert len(lines) <= LINES, f"cell {cell.id} is long: does the package have a function for it?"


def test_its_first_code_installs_the_package_only_where_it_is_not(notebook):
    guard = parsed(code_cells(notebook)[0]).body[-1]
    assert isinstance(guard, ast.If)
    assert ast.unparse(guard.test) == "importlib.util.find_spec('facerep_jax') is None"
    assert "install" in ast.unparse(guard.body)
    assert not guard.orelse


def test_it_was_executed_whole_in_order_and_without_errors(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    for cell in cells:
        if re.search(r"^(figure|print|call|picture)\b", cell.source, re.MULTILINE):
            assert cell.outputs, f"cell {cell.id} shows nothing; run make notebooks"


def test_its_pictures_are_small(path, notebook):
    pictures = [
        o.data["image/png"] for cell in code_cells(notebook) for o in cell.outputs if "image/png" in o.get("data", {})
    ]
    assert pictures
    assert path.stat().st_size < 1.4 * MEGABYTE  # pictures in base64
    assert sum(len(picture) * 3 / 4 for picture in pictures) < MEGABYTE


def test_it_names_no_path_of_a_machine(notebook):
    found = [(cell.id, text) for cell in notebook.cells for text in texts(cell) if MACHINE.search(text)]
    assert found == []


def test_its_links_lead_somewhere(path, notebook):
    words = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", words) if not link.startswith("https://")]
    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_it_has_the_parameters_that_are_set_tiny(path, notebook):
    with_settings(notebook, TINY[path.stem])
    with pytest.raises(ValueError, match=r"the parameters cell sets .*, not EPOCHS"):
        with_settings(notebook, {"EPOCHS": 1})


@pytest.mark.slow
def test_it_runs_with_tiny_settings(path, notebook, tmp_path):
    copy = tmp_path / path.name
    copy.write_text(nbformat.writes(with_settings(notebook, TINY[path.stem])))
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # on the devices that users have
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])
    command = [sys.executable, str(ROOT / "notebooks" / "execute.py"), str(copy)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == [copy]
    executed = nbformat.read(copy, as_version=4)
    test_it_was_executed_whole_in_order_and_without_errors(executed)
    shown = "".join(text for cell in code_cells(executed) for text in texts(cell))
    assert [words for words in SHOWN[path.stem] if words not in shown] == []


def test_a_notebook_that_fails_is_left_as_it_was(tmp_path):
    broken = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("print('before')"), nbformat.v4.new_code_cell("1 / 0")]
    )
    path = tmp_path / "broken.ipynb"
    path.write_text(nbformat.writes(broken))
    before = path.read_bytes()
    command = [sys.executable, str(ROOT / "notebooks" / "execute.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
