"""Output of scripts: to the terminal and to a log, errors in one sentence."""

import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from coda.errors import UserError, raise_shortage
from coda.redaction import shown

# In the environment of a script that runs once more, on another node, beside the one whose log it is.
COPY = "CODA_COPY_OF_A_SCRIPT"


class Tee:
    """A text stream that writes to two others what they may show, see `coda.redaction.shown`."""

    def __init__(self, terminal: TextIO, log: TextIO):
        self.terminal, self.log = terminal, log

    def write(self, text: str) -> int:
        """Write `text` to both."""
        told = shown(text.replace("\r\n", "\n"))
        self.log.write(told)
        self.terminal.write(told)
        return len(text)

    def flush(self) -> None:
        """Flush both."""
        self.log.flush()
        self.terminal.flush()

    def isatty(self) -> bool:
        """Give False: a log is plain text."""
        return False


@contextmanager
def copied(log: str) -> Iterator[None]:
    """Copy all output of the block to the end of the file `log`, to which other processes may write too."""
    with open(log, "a", buffering=1) as file:
        sys.stdout = sys.stderr = Tee(sys.__stderr__, file)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


@contextmanager
def reported(log: str) -> Iterator[None]:
    """Copy all output of the block to the file `log`; on an error, end the process with a sentence.

    A `UserError` becomes one sentence and exit status 1, as does a lack of memory or open files.
    Any other exception keeps its traceback, in the log too.
    """
    if COPY not in os.environ:
        open(log, "w").close()
    with copied(log):
        try:
            yield
        except UserError as error:
            print(f"Error: {error}", file=sys.stderr)
            sys.exit(1)
        except Exception as error:
            try:
                raise_shortage(error)
            except UserError as shortage:
                print(f"Error: {shortage}", file=sys.stderr)
            else:
                traceback.print_exc()
            sys.exit(1)


def some(names: Iterable[str], most: int = 8) -> str:
    """List the first few names in order, each once."""
    ordered = sorted(set(names))
    return ", ".join(ordered[:most]) + (", ..." if len(ordered) > most else "")


def tell(message: str) -> None:
    """Print a message on standard error, and so in the log."""
    print(message, file=sys.stderr, flush=True)


_collecting: list[list[str]] = []


def warn(message: str) -> None:
    """Tell what a reader of the results should know too; `warned` collects it."""
    tell(message)
    for messages in _collecting:
        messages.append(message)


@contextmanager
def warned() -> Iterator[list[str]]:
    """Collect the messages of `warn` in the block."""
    messages: list[str] = []
    _collecting.append(messages)
    try:
        yield messages
    finally:
        _collecting.remove(messages)
