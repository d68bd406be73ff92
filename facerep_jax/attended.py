"""Run one command of facerep, which gets SIGTERM at the end of stdin: whoever wanted it is gone.

python -m facerep_jax.attended COMMAND ...

A pre-training then saves its state and ends, as at any SIGTERM, so that a study that was killed leaves nobody at work.
"""

import os
import signal
import sys
import threading

from facerep_jax import cli


def main() -> int:
    """Run the command and return its exit status."""

    def attend() -> None:
        while os.read(0, 1):  # not by sys.stdin, whose lock Python wants at its exit
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=attend, daemon=True).start()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
