"""Plug-in: generated faces with pairs and folds, as benchmarks of verification have them. Nothing is prepared."""

import dataclasses

import numpy as np

from facerep_jax.data.datasets import generated_faces
from facerep_jax.data.records import Plan

NAME = "default"
RAW = None
VERSION = "1.0.0"
FOLDS = 10

read = generated_faces.read


def plan(raw: generated_faces.Request) -> Plan:
    """The faces, and `pairs`: all of one person in the test split, and as many of different ones."""
    made = generated_faces.plan(raw)
    faces = dict(made.example(record) for record in made.records["test"])
    keys, people = list(faces), [face["identity"] for face in faces.values()]
    two = [(a, b) for a in range(len(keys)) for b in range(a)]
    same = [pair for pair in two if people[pair[0]] == people[pair[1]]]
    other = [pair for pair in two if people[pair[0]] != people[pair[1]]]
    chosen = np.random.default_rng(0).permutation(len(other))[: len(same)]
    pairs = [*same, *(other[i] for i in chosen)]
    order = np.random.default_rng(1).permutation(len(pairs))
    table = {
        "first": [keys[pairs[i][0]] for i in order],
        "second": [keys[pairs[i][1]] for i in order],
        "same": np.array([i < len(same) for i in order]),
        "fold": np.arange(len(pairs)) % FOLDS,
    }
    return dataclasses.replace(made, tables={"pairs": table})
