"""The command `facerep`, with one sub-command for each entry point."""

import errno
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable

from absl import flags, logging
from ml_collections import ConfigDict

from facerep_jax import clock, heap
from facerep_jax.command_line import cause_of, resolve
from facerep_jax.suggestions import nearest

COMMANDS = {
    "demo": "Prepare, pre-train, evaluate and report on generated faces.",
    "datasets": "List the data sets that can be prepared, and their terms.",
    "prepare": "Write a data set's records.",
    "inspect": "Look at a data set: pictures of faces with their labels, counts, and warnings.",
    "audit": "Find what a set to train on shares with sets to evaluate on.",
    "pretrain": "Pre-train an encoder.",
    "watch": "Show how runs of pre-training are getting on.",
    "evaluate": "Score a checkpoint on a task.",
    "embed": "Write features of pictures.",
    "predict": "Predict what an evaluation learnt, on pictures.",
    "convert": "Write an encoder's weights in another layout.",
    "report": "Write tables, curves and pictures of runs and results.",
    "verify": "Check that a run's checkpoints are what was saved.",
    "replay": "Repeat one step of a run, and say what went wrong in it.",
    "plan": "Say before a launch whether a run fits on chips that are not here, and how long it would take.",
    "doctor": "Say what this machine has, what a config needs, and what to do where they differ.",
    "study": "Compare many runs, cell by cell, in one table.",
}
HELP = {"-h", "--help", "-help"}
PATH_ERRORS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
BAD_INPUT = (flags.Error, ValueError, *PATH_ERRORS)
BAD_PATH = (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)  # of other OSErrors, those that another path helps against


def main(argv: list[str] | None = None) -> int:
    """Run `facerep COMMAND ...` and return the exit status. Bad input gives one line on stderr and status 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a result is shown by ASCII terminals too; stderr escapes by itself
        sys.stdout.reconfigure(errors="replace")
    if "" not in sys.path:
        sys.path.append("")  # the working directory: data sets and callables of one's own may lie there
    name, *rest = (sys.argv if argv is None else argv)[1:] or ["--help"]
    if name in HELP:
        print("facerep: pre-train face encoders and show what they are worth\n")
        print("\n".join(f"  facerep {command:9s} {help}" for command, help in COMMANDS.items()))
        print("\nfacerep COMMAND --help explains a command.")
        return 0
    if name not in COMMANDS:
        return fail("facerep", f"no command {name!r}; {nearest(name, COMMANDS)}", 2)
    try:
        return run(name, [f"facerep {name}", *rest])
    except KeyboardInterrupt:
        if os.environ.get("FACEREP_VERBOSE"):
            raise
        return interrupted(f"facerep {name}")


def run(name: str, argv: list[str]) -> int:
    """Run one command with flags of its own, which no other command sees."""
    clock.start()
    set_up()
    command = importlib.import_module(f"facerep_jax.{name}")  # imports jax, which `heap.keep` must precede
    own = flags.FlagValues()
    try:  # parses flags and runs the config's code: any failure here is bad input
        argv = [resolve(argument, before) for before, argument in zip(["", *argv], argv, strict=False)]
        command.define_flags(own, argv)
        if HELP & set(argv):
            print(f"{(command.__doc__ or '').strip()}\n\n{own.main_module_help() or own.get_help()}")
            return 0
        words = own(argv)[1:]
    except Exception as error:
        if os.environ.get("FACEREP_VERBOSE"):
            raise
        return fail(argv[0], unknown_key(own, argv) or in_config(error), 2)
    return guarded(argv[0], lambda: command.run(own, words))


def set_up() -> None:
    """Set what holds for all of a process. Nothing may have imported jax."""
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO if os.environ.get("FACEREP_VERBOSE") else logging.WARNING)
    heap.keep()


def guarded(who: str, call: Callable[[], int | None]) -> int:
    """The exit status of a call; where it fails by bad input, or by the system, one line on stderr says why."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain's workers read absl's global flags
    try:
        return call() or 0
    except (*BAD_INPUT, OSError) as error:  # other OSErrors, such as a full disk, are not the input's fault: status 1
        if os.environ.get("FACEREP_VERBOSE"):
            raise
        bad = isinstance(error, BAD_INPUT) or (isinstance(error, OSError) and error.errno in BAD_PATH)
        return fail(who, one_line(error), 2 if bad else 1)


def unknown_key(own: flags.FlagValues, argv: list[str]) -> str:
    """A message about the first `--config.a.b=x` whose key the config does not have; empty if there is none."""
    given = {flag.lstrip("-"): value for flag, value in zip(argv, [*argv[1:], ""], strict=True) if flag.startswith("-")}
    given |= {flag.lstrip("-"): value for flag, equals, value in (a.partition("=") for a in argv) if equals}
    try:
        config = own["config"].parser.parse(given["config"])
    except Exception:  # then the config itself is at fault, and the caller says so
        return ""
    for flag in given:
        node, (first, *keys) = config, flag.partition("=")[0].split(".")
        for key in keys if first == "config" and "[" not in flag else ():
            known = node if isinstance(node, ConfigDict) else {}
            if key not in known:
                return f"the config has no key {'.'.join(keys)!r}; {nearest(key, known)}"
            node = known[key]
    return ""


def in_config(error: BaseException) -> str:
    """What went wrong while flags and config were read; if the config's own code failed, with file and line."""
    error = cause_of(error)
    if isinstance(error, (*BAD_INPUT, SyntaxError)):
        return one_line(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{place.filename}, line {place.lineno}: {type(error).__name__}: {one_line(error)}"


def one_line(error: BaseException) -> str:
    """The message of an error, on one line."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return " ".join(str(text).split())


def interrupted(who: str) -> int:
    """Say that Ctrl-C ended a command, and end this process by that signal, for which shells have the status 130.

    So a loop of a shell ends with its command, and nothing waits for threads of XLA, which may crash at Python's exit.
    """
    status = fail(who, "stopped by Ctrl-C; nothing is half-written", 128 + signal.SIGINT)
    sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    return status


def fail(who: str, message: str, status: int) -> int:
    """Print a message to stderr and return the exit status."""
    print(f"{who}: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
