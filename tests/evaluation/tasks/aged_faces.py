"""Generated faces with an age in years, the same for all images of a person. Nothing is prepared."""

import dataclasses
import functools

import numpy as np

from facerep_jax.data.datasets import generated_faces
from facerep_jax.data.records import Plan

NAME = "default"
RAW = None
VERSION = "1.0.0"

read = generated_faces.read


def plan(raw: generated_faces.Request) -> Plan:
    """The faces, with an age."""
    made = generated_faces.plan(raw)
    example = functools.partial(aged, made.example)
    return dataclasses.replace(made, names=(*made.names, "age"), example=example)


def aged(example, record):
    """An example and its key, with an age."""
    key, values = example(record)
    return key, {**values, "age": np.float32(18 + 7 * values["identity"] % 60)}
