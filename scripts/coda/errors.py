"""Errors that a user can correct, each described in one sentence."""

import difflib
import errno
from collections.abc import Iterable


class UserError(Exception):
    """An error in the config, the input or the surroundings that the user can correct.

    The message is one sentence that names the key or the file at fault and the way out;
    scripts print it without a traceback and end with a non-zero exit status.
    """


def raise_shortage(error: Exception) -> None:
    """Raise a `UserError` if the machine ran out of memory or open files: a file read then is not at fault.

    Called first where the failure of one file costs only that file.
    """
    number = getattr(error, "errno", None)
    if number in (errno.EMFILE, errno.ENFILE):
        raise UserError(
            "Too many files are open; allow more (ulimit -n 4096), or lower gallery.workers."
        ) from error
    if number == errno.ENOMEM or isinstance(error, MemoryError):
        raise UserError(
            "The memory ran out; give the job more mem_mb or fewer threads, or lift the limit (ulimit -v)."
        ) from error


def did_you_mean(name: str, known: Iterable[str], otherwise: str = ".") -> str:
    """End a sentence about an unknown name with the known one that is most like it.

    Parameters
    ----------
    name
        The unknown name.
    known
        All known names; upper and lower case make no difference.
    otherwise
        How the sentence ends if none is like it.

    Examples
    --------
    >>> did_you_mean("epoch", ["epochs", "batch_size"])
    '; did you mean epochs?'
    """
    by_lower_case = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.5)
    return f"; did you mean {by_lower_case[near[0]]}?" if near else otherwise
