"""The process of one writer: reads what to write from its standard input, and answers each line.

The first line is {"writer": spec, "workdir": path, "config": object}, each further one [step, scalars]. The answer is
an empty line, or what went wrong. What libraries print goes to the log that is its standard error.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from facerep_jax.train.writers import MetricWriter, opened

LAST_SECONDS = 10  # to close, after which the process ends by SIGALRM even if nobody is left to end it


def outlive(parent: int) -> None:
    """Give this process `LAST_SECONDS` once another is gone: a writer that hangs would never see its input's end."""
    while os.getppid() == parent:
        time.sleep(1)
    signal.alarm(LAST_SECONDS)


def main() -> None:
    """Write until the input ends."""
    threading.Thread(target=outlive, args=(os.getppid(),), daemon=True).start()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        given = json.loads(sys.stdin.readline())
        writer: MetricWriter | None = None
        while line := sys.stdin.readline():
            step, scalars = json.loads(line)
            wrong = ""
            try:
                if writer is None:  # at the first line, and again at the next if that failed
                    writer = opened(given["writer"], Path(given["workdir"]), given["config"])
                writer.write_scalars(step, scalars)
            except Exception as error:
                wrong = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                print(f"step {step}: {error!r}", file=sys.stderr, flush=True)
            print(wrong, file=answers, flush=True)
    signal.alarm(LAST_SECONDS)
    if writer is not None:
        writer.flush()
        writer.close()
    sys.stderr.flush()
    os._exit(0)  # what libraries do at Python's exit may wait for a network that is gone


if __name__ == "__main__":
    main()
