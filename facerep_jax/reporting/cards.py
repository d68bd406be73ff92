"""What a reader needs to make a run again: command, weights, data, seeds, what was selected, versions, config."""

import json
from collections.abc import Mapping
from typing import Any

from facerep_jax.evaluation.results import JUDGED
from facerep_jax.reporting import wording
from facerep_jax.reporting.comparison import Line
from facerep_jax.reporting.page import Card
from facerep_jax.reporting.workdirs import Pretraining, read_command, read_selected

UNKNOWN = "not recorded; the config below holds all settings"


def evaluation_card(line: Line) -> Card:
    """How one row of a table was made."""
    r, folder = line.results, line.evaluation.folder
    c: Any = r["checkpoint"] if line.source == JUDGED else "random"
    origin = "random: the config's encoder before any training" if c == "random" else c.get("path", wording.NOTHING)
    facts = [
        ("command", read_command(folder) or UNKNOWN),
        ("workdir", str(folder)),
        ("checkpoint", origin),
        *([] if c == "random" else [("checkpoint's step, weights", f"{c.get('step')}, {c.get('weights')}"),
                                    ("checkpoint's SHA-256", str(c.get("digest") or wording.NOTHING))]),
        ("data set", r["dataset"]),
        ("data set's digest", str(r.get("dataset_digest") or "not recorded")),
        ("labels", f"{r['labels']:,} training faces, {100 * r['fraction']:g}% of them"),
        ("seeds of the label subsets", ", ".join(map(str, r["seeds"]))),
        ("selection", line.selection),
        ("selected", _selected(line) or "not recorded"),
        *((("encoder", r["encoder"]["name"]),) if r.get("encoder") else ()),
        *((("head", r["head"]),) if r.get("head") else ()),
        ("protocol", _protocol(line)),
        ("versions", ", ".join(f"{k} {v}" for k, v in (r.get("versions") or {}).items()) or "not recorded"),
    ]  # fmt: skip
    title = f"{line.name}, {wording.share(r['fraction'])}"
    return Card(title, tuple(facts), json.dumps(r["config"], indent=1) if r.get("config") else "")


def _protocol(line: Line) -> str:
    """The protocol and its settings."""
    settings = (line.entry.get("protocol_settings") or {}).items()
    return f"{line.protocol}: {', '.join(f'{name} {value}' for name, value in settings)}".rstrip(": ")


def _selected(line: Line) -> str:
    """What was chosen for each label subset, and its score on validation."""
    found = []
    for seed, selected in read_selected(
        line.evaluation.folder, "selected" + f"_{line.source}" * (line.source != JUDGED)
    ):
        score = selected.get("validation")
        settings = [f"{name.replace('_', ' ')} {value:g}" for name, value in selected.items() if name != "validation"]
        scored = [f"{wording.percent(score)}% on validation"] if score is not None else []
        found.append(f"seed {seed}: {', '.join(settings + scored)}")
    return "; ".join(found)


def training_card(run: Pretraining) -> Card:
    """How a pre-training was run."""
    data: Mapping[str, Any] = run.config.get("data") or {}
    facts = [
        ("command", read_command(run.folder) or (UNKNOWN if run.config else "not recorded")),
        ("workdir", str(run.folder)),
        ("data set", str(data.get("dataset") or "not recorded")),
        ("seed", str(run.config.get("seed", "not recorded"))),
    ]
    return Card(run.folder.name, tuple(facts), json.dumps(run.config, indent=1) if run.config else "")
