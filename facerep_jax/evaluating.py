"""Run evaluations one after another in a process, where they are done sooner than in one each.

python -m facerep_jax.evaluating

Each line of stdin is JSON: `arguments` of facerep evaluate, the `checkpoint` among them, and the file of the `log`. The
exit status of each is a line of stdout. JAX starts once, a split is read once, an encoder sees an image once, and a
baseline without a network is fitted once; of an encoder nothing stays once another one is judged. At the end of stdin
this process ends, even within an evaluation: whoever wanted it is gone.
"""

import json
import os
import queue
import signal
import sys
import threading

from facerep_jax import cli


def main() -> None:
    """Run what stdin asks for, to its end."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what began this says why it stops
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed before the first log is no reply
    cli.set_up()
    from facerep_jax.evaluate import again, headline_of
    from facerep_jax.evaluation.shared import Shared
    from facerep_jax.train import hardware

    shared = Shared()
    asked, busy = queue.SimpleQueue[str](), threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            busy.set()
            asked.put(line)
        if busy.is_set():
            os._exit(1)
        asked.put("")

    threading.Thread(target=listen, daemon=True).start()
    while line := asked.get():
        wanted = json.loads(line)
        with open(wanted["log"], "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        shared.turn_to(wanted["checkpoint"])

        def evaluate(arguments: list[str] = wanted["arguments"]) -> None:
            hardware.check()
            print(headline_of(again(arguments, shared)))

        status = cli.guarded("facerep evaluate", evaluate)
        sys.stdout.flush()
        busy.clear()
        print(status, file=replies, flush=True)


if __name__ == "__main__":
    main()
