"""Writers with the methods of CLU's, as a user would bring them along: one that records, and ones that fail."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Recorder:
    """Writes what it is given into a file, a line per call."""

    def __init__(self, workdir: Path, name: str = "recorded", **more: Any):
        self._path = workdir / f"{name}.jsonl"

    def _note(self, *call: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(call) + "\n")

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        self._note("write_hparams", hparams)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._note("write_scalars", step, scalars)

    def flush(self) -> None:
        self._note("flush")

    def close(self) -> None:
        self._note("close")


class Offline(Recorder):
    """Has no network in the steps from `first` to `last`, and none at first if `first` is 0."""

    def __init__(self, workdir: Path, first: int, last: int):
        super().__init__(workdir)
        self._away = range(first, last + 1)
        with (workdir / "tries").open("a") as file:
            file.write("try\n")
        if not first and len((workdir / "tries").read_text().split()) <= last:
            raise ConnectionError("no route\nto host")

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        if step in self._away:
            raise ConnectionError("no route\nto host")
        super().write_scalars(step, scalars)


class Hanging(Recorder):
    """Hangs in one of its methods, for ever, with a process of its own beside it."""

    def __init__(self, workdir: Path, method: str):
        super().__init__(workdir)
        (workdir / "pid").write_text(str(os.getpid()))

        def hang(*_: Any) -> None:
            time.sleep(3600)

        setattr(self, method, hang)


class Dying(Recorder):
    """Takes its process along, as a crash in a library does."""

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        print("about to die")
        os._exit(3)


class Needy(Recorder):
    """Needs a package that nobody has."""

    packages = ("facerep_no_such_package",)
