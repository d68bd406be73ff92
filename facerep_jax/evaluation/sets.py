"""The data of an evaluation: one data set, or one that is learnt from and another that is tested on."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from facerep_jax.data.library import Dataset, open_dataset
from facerep_jax.data.meta import shown

LEARNT_FROM = ("train", "validation")  # roles of splits
NAMES = {  # feature -> key of the meta that names its numbers in order
    "mask": "classes",
    "attributes": "attributes",
    "action_units": "action_units",
    "expression": "expressions",
    "vertices": "vertex_landmarks",
}


class Sets(NamedTuple):
    """What is tested on, and what is learnt from: splits for training and validation; often one data set."""

    test: Dataset
    train: Dataset

    @property
    def two(self) -> bool:
        """Whether they are different sets."""
        return (self.test.name, self.test.digest) != (self.train.name, self.train.digest)

    @property
    def name(self) -> str:
        """The name of the data set, or of both."""
        return f"{self.test.name}, learnt from {self.train.name}" if self.two else self.test.name

    @property
    def digest(self) -> str:
        """The digest of the data set, or of both, first that of the set which is tested on."""
        return f"{self.test.digest}+{self.train.digest}" if self.two else self.test.digest

    def of(self, role: str) -> Dataset:
        """The set whose split plays a role."""
        return self.train if role in LEARNT_FROM else self.test

    def require_alike(self, features: Collection[str]) -> None:
        """Raises ValueError if the numbers of one of these features do not mean the same in both sets."""
        for feature in features:
            (key, first), (_, second) = (meaning(feature, each.meta) for each in (self.train, self.test))
            if first != second:
                raise self.unlike(key, shown(first), shown(second))

    def unlike(self, what: str, first: object, second: object) -> ValueError:
        """The error that something of the set that is learnt from differs from that of the other."""
        return ValueError(
            f"what is learnt from {self.train.name!r} cannot be tested on {self.test.name!r}: {what} is {first} in the "
            f"one and {second} in the other"
        )


def open_sets(data: ConfigDict) -> Sets:
    """The data sets that `data` of an evaluation's config names: `dataset`, and `train_set` if it says any."""
    test = open_dataset(data.dataset, data.data_dir)
    return Sets(test, open_dataset(data.train_set, data.data_dir) if data.get("train_set") else test)


def meaning(feature: str, meta: Mapping[str, Any]) -> tuple[str, Any]:
    """A key of a meta that says what a feature's numbers stand for, and what it says; None if there is nothing."""
    if feature in ("landmarks", "landmarks_3d"):
        return "landmarks.flip", meta.get("landmarks", {}).get("flip")
    key = NAMES.get(feature, "")
    return key, meta.get(key)
