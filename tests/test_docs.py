"""What the documents name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
TESTS = "\n".join(path.read_text() for path in ROOT.glob("tests/**/*.py"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_and_tests_are_there(document):
    """Paths in back quotes, of the repository's folders, and the targets of links; names of tests.

    A path that stands alone on a line is that of a file which a recipe makes.
    """
    text = document.read_text()
    made = re.findall(r"^`([\w/]+\.py)`$", text, re.MULTILINE)
    named = re.findall(r"`((?:facerep_jax|configs|tests|benchmarks|launch|notebooks|docs)/[\w./-]+)`", text)
    linked = [target for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if "://" not in target]
    missing = [name for name in named if name not in made and not (ROOT / name).exists()]
    missing += [name for name in linked if not (document.parent / name).exists()]
    missing += [name for name in re.findall(r"`(test_\w+)`", text) if f"def {name}(" not in TESTS]
    assert not missing
