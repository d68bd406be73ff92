"""Each message that docs/when_something_goes_wrong.md quotes is printed by the package, and its links lead somewhere.

Planted and seen red: a word of a quoted message changed; a heading that a link names renamed.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/when_something_goes_wrong.md"
FIRST_CELL = re.compile(r"^(?:\| | *> )(`[^|]*?)(?: \||$)", re.MULTILINE)  # of rows that begin with a message
FORMAT = re.compile(r"%(?:[\d.]*[sdgf]|%)")  # of logging's arguments
PLACE = "…"


def text_of(node):
    """A string of the source with `PLACE` for what is filled in; None for another node."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return FORMAT.sub(lambda found: "%" if found[0] == "%%" else PLACE, node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(PLACE if isinstance(part, ast.FormattedValue) else part.value for part in node.values)
    return None


@pytest.fixture(scope="module")
def printed():
    """All strings of the package and of the Makefile."""
    files = (ROOT / "facerep_jax").rglob("*.py")
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    found = [text for node in nodes if id(node) not in documentation and (text := text_of(node))]
    return [*found, *(ROOT / "Makefile").read_text().splitlines()]


def quoted():
    cells = FIRST_CELL.findall(PAGE.read_text())
    return [message for cell in cells for message in re.findall(r"`([^`]+)`", cell) if " " in message]


def parts(message):
    """The fixed parts of a quoted message, in order."""
    return [part.strip(" %") for part in message.split(PLACE) if len(part.strip(" %:;,./")) > 1]


def holds(text, message):
    return re.search(".*".join(map(re.escape, parts(message))), text, re.DOTALL) is not None


def test_there_are_messages_of_every_command():
    assert len(quoted()) > 50
    headings = re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)
    assert {"Install", "Prepare", "Pre-train", "Clusters", "Evaluate", "Report"} <= {*headings}


def test_each_message_is_one_of_the_source(printed):
    missing = [message for message in quoted() if not any(holds(text, message) for text in printed)]
    assert not missing
    assert not any(holds(text, "… is in use by …; wait for the end of it") for text in printed)


def test_links_lead_to_headings():
    for place in re.findall(r"\]\(([^)]+)\)", PAGE.read_text()):
        file, _, anchor = place.partition("#")
        text = (PAGE.parent / file).read_text() if file else PAGE.read_text()
        if anchor:
            headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, place


@pytest.mark.parametrize("file", ["README.md", "docs/clusters.md", "docs/guarantees.md"])
def test_it_can_be_found(file):
    assert PAGE.name in (ROOT / file).read_text()
