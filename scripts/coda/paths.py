"""Paths and ids as users write them."""

import os
import re

from coda.errors import UserError


def expanded_path(path: str, where: str) -> str:
    """Give a local path with ``~`` and variables such as ``$HOME`` replaced, an address (``s3://``) as it is.

    Parameters
    ----------
    path
        As a user wrote it.
    where
        The config key or column, for the message.

    Raises
    ------
    UserError
        If a variable is not set or a home does not exist: a folder of that name would be made or looked for instead.
    """
    if "://" in path:
        return path
    expanded = os.path.expanduser(os.path.expandvars(path))
    if unset := re.search(r"\$(\w+|\{[^}]*\})", expanded):
        raise UserError(
            f"{where} is {path}, but the variable {unset[0]} is not set; set it or write the path."
        )
    if expanded.startswith("~"):
        raise UserError(
            f"{where} is {path}, but there is no such home; write the path (./~ for a folder of that name)."
        )
    return expanded


def check_name(name: object, where: str) -> None:
    """Refuse an id that cannot be part of a path: results are stored under it."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}", name):
        raise UserError(
            f"In {where}, {name!r} is no id of a source, batch or plate: "
            "it may hold up to 100 letters, digits and _ . + - only."
        )
    if name.endswith((".partial", ".lock")):
        raise UserError(
            f"In {where}, {name!r} ends as folders of unfinished downloads do; give it another name."
        )
