"""What a script computes, as a number that a change of words leaves alone.

A rule takes the digest of its script as a param: whoever changes what the script or a module behind it computes
runs again what depends on it; whoever improves a docstring, a comment or a message runs nothing.

The rules plan with it, so it imports nothing heavy.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = "coda"
# What is said to the user changes no result: neither the modules that say it ...
SILENT = {"errors", "logs", "progress"}
# ... nor the words that a call of theirs, or of print, is given.
MESSAGES = {"UserError", "print", "tell"}


@cache
def code_digest(script: Path) -> str:
    """Hash the syntax of a script and of every module of the library that it imports, directly or not.

    Parameters
    ----------
    script
        A file beside the folder of the library.

    Returns
    -------
    str
        16 hexadecimal digits, the same for every version of Python.
    """
    found, waiting = {script}, [script]
    while waiting:
        new = _imported(waiting.pop(), script.parent) - found
        found |= new
        waiting += new
    trees = sorted((path.relative_to(script.parent).as_posix(), _syntax(path)) for path in found)
    return hashlib.sha256(repr(trees).encode()).hexdigest()[:16]


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def _imported(path: Path, folder: Path) -> set[Path]:
    """Files of the library that a file imports, but for those that only say something."""
    files: set[Path] = set()
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            place = folder.joinpath(*node.module.split("."))
            names = [place, *(place / name.name for name in node.names)]
            files |= {name.with_suffix(".py") for name in names}
    silent = {folder / PACKAGE / f"{name}.py" for name in SILENT}
    return {file for file in files - silent if file.is_file()}


@cache
def _syntax(path: Path) -> str:
    """Hash the syntax tree of one file, without docstrings, messages and places in the text."""
    return hashlib.sha256(repr(_plain(_parsed(path))).encode()).hexdigest()


def _plain(node: object) -> object:
    """Turn a syntax tree into tuples.

    `ast.dump` would not do: what it writes differs between versions of Python.
    """
    if isinstance(node, list):
        return tuple(_plain(item) for item in node if not _is_docstring(item))
    if not isinstance(node, ast.AST):
        return repr(node)
    said = isinstance(node, ast.Call) and getattr(node.func, "id", None) in MESSAGES
    fields = {"func": node.func} if said else dict(ast.iter_fields(node))
    # Fields that newer versions added are empty in code that older ones can read.
    kept = {name: _plain(value) for name, value in fields.items() if value not in (None, [])}
    return (type(node).__name__, *kept.items())


def _is_docstring(node: object) -> bool:
    """Whether a statement is a text that stands for itself."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
