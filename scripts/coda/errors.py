"""Faults that a user can mend, told in one sentence."""


class UserError(Exception):
    """A fault in the config, the input or the surroundings that the user can mend.

    The message is one sentence that names the key or the file at fault and the way out;
    scripts print it without a traceback and end with a non-zero exit status.
    """
