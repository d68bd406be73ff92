import signal
import subprocess
import sys

import pytest

from facerep_jax import lock

HOLD = """
import sys, time
from pathlib import Path
from facerep_jax import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"in use by process {first.pid} on "), lock.held(tmp_path):
            pass
        first.send_signal(signal.SIGKILL)
    with lock.held(tmp_path):
        pass


def test_it_is_let_go_at_the_end(tmp_path):
    for _ in range(2):
        with lock.held(tmp_path):
            pass
