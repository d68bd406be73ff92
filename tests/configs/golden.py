"""The default of each config as text, kept beside in golden/, so that a change of a default shows in review.

Written anew by `python -m tests.configs.golden`.
"""

import json
import runpy
from pathlib import Path

from facerep_jax.config import plain

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).with_suffix("")


def texts() -> dict[Path, str]:
    """Every config's default as JSON, by the file that it is kept in."""
    paths = [path for path in sorted((ROOT / "configs").glob("*/*.py")) if path.stem != "__init__"]
    return {FOLDER / f"{path.parent.name}_{path.stem}.json": text_of(path) for path in paths}


def text_of(path: Path) -> str:
    """A config's default as JSON."""
    return json.dumps(plain(runpy.run_path(str(path))["get_config"]()), indent=1, sort_keys=True) + "\n"


def write_all() -> None:
    """Write every file, and remove those of configs that are gone."""
    FOLDER.mkdir(exist_ok=True)
    wanted = texts()
    for path in FOLDER.glob("*.json"):
        if path not in wanted:
            path.unlink()
    for path, text in wanted.items():
        path.write_text(text)


if __name__ == "__main__":
    write_all()
