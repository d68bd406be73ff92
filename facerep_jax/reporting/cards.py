"""Cards: what a reader needs to repeat a run, such as command, weights, data, seeds, selection, versions, config."""

import json
from collections.abc import Mapping
from typing import Any

from facerep_jax.evaluation.results import JUDGED, name_of
from facerep_jax.reporting import wording
from facerep_jax.reporting.lines import Line
from facerep_jax.reporting.page import Card
from facerep_jax.reporting.workdirs import Pretraining, read_command, read_selected

UNKNOWN = "not recorded; the config below holds all settings"


def evaluation_card(line: Line) -> Card:
    """The card of one row of a table."""
    r = line.results
    checkpoint = r.checkpoint if line.source == JUDGED else None
    encoder = [("checkpoint", "random: the config's encoder before any training")]
    if checkpoint is not None:
        encoder = [
            ("checkpoint", name_of(checkpoint)),
            ("checkpoint's weights", checkpoint.weights or "not recorded"),
            ("checkpoint's SHA-256", checkpoint.digest or wording.NOTHING),
        ]
    facts = [
        ("command", read_command(line.folder) or UNKNOWN),
        ("workdir", str(line.folder)),
        *encoder,
        ("data set", r.dataset),
        ("data set's digest", r.dataset_digest or "not recorded"),
        ("data set's licence", r.licence.get("licence", "")),
        ("data set's agreement", r.licence.get("agreement", "")),
        ("labels", f"{r.labels:,} training examples, {100 * r.fraction:g}% of them"),
        ("shots of each person or class", str(r.shots or "")),
        ("seeds of the label subsets", ", ".join(map(str, r.seeds))),
        ("selection", line.selection),
        (
            "left out",
            ", ".join(
                f"{count} records of {role}, which lack what the transforms need" for role, count in r.left_out.items()
            ),
        ),
        ("selected", _selection_per_subset(line) or "not recorded"),
        ("encoder", r.encoder.name),
        ("head", r.head),
        ("protocol", _protocol(line)),
        ("versions", ", ".join(f"{name} {version}" for name, version in r.versions.items()) or "not recorded"),
    ]
    title = f"{line.name}, {wording.label_share(r.fraction)}"
    return Card(title, tuple(fact for fact in facts if fact[1]), _config(r.config))


def _config(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=1) if config else ""


def _protocol(line: Line) -> str:
    """The protocol and its settings."""
    settings = (line.scores.protocol_settings or {}).items()
    return f"{line.protocol}: {', '.join(f'{name} {value}' for name, value in settings)}".rstrip(": ")


def _selection_per_subset(line: Line) -> str:
    """The step and settings that were selected for each label subset, and their score on validation."""
    found = []
    for seed, selected in read_selected(line.folder, "selected" + f"_{line.source}" * (line.source != JUDGED)):
        score = selected.get("validation")
        settings = [f"{name.replace('_', ' ')} {value:g}" for name, value in selected.items() if name != "validation"]
        scored = [f"{line.scale.shown(score)} on validation"] if score is not None else []
        found.append(f"seed {seed}: {', '.join(settings + scored)}")
    return "; ".join(found)


def pretraining_card(run: Pretraining) -> Card:
    """The card of a pre-training."""
    data: Mapping[str, Any] = run.config.get("data") or {}
    facts = [
        ("command", read_command(run.folder) or (UNKNOWN if run.config else "not recorded")),
        ("workdir", str(run.folder)),
        ("data set", str(data.get("dataset") or "not recorded")),
        ("seed", str(run.config.get("seed", "not recorded"))),
    ]
    return Card(run.folder.name, tuple(facts), _config(run.config))
