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
    trees = sorted((path.relative_to(script.parent).as_posix(), _read(path)[0]) for path in found)
    return hashlib.sha256(repr(trees).encode()).hexdigest()[:16]


@cache
def _read(path: Path) -> tuple[str, frozenset[tuple[str, str]]]:
    """Hash the syntax tree of one file, without docstrings, messages and places in the text; and list what it imports.

    `ast.dump` would not do: what it writes differs between versions of Python.
    """
    imports: set[tuple[str, str]] = set()

    def plain(node: object) -> str:
        # The text of nested tuples. One pass for both, since this is half of what Snakemake takes to start.
        if type(node) is list:
            return _tuple([plain(item) for item in node if not _is_docstring(item)])
        if not isinstance(node, ast.AST):
            return repr(repr(node))
        kind, fields = type(node), node._fields
        if kind is ast.Call and getattr(node.func, "id", None) in MESSAGES:
            fields = ("func",)
        elif kind is ast.ImportFrom and (node.module or "").split(".")[0] == PACKAGE:
            imports.update((node.module, name.name) for name in node.names)
        parts = [f"'{kind.__name__}'"]
        for name in fields:
            # Fields that newer versions added are empty in code that older ones can read.
            value = getattr(node, name, None)
            if value is not None and value != []:
                parts.append(f"('{name}', {plain(value)})")
        return _tuple(parts)

    text = plain(ast.parse(path.read_text()))
    return hashlib.sha256(text.encode()).hexdigest(), frozenset(imports)


def _tuple(parts: list[str]) -> str:
    return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"


@cache
def _imported(path: Path, folder: Path) -> set[Path]:
    """Files of the library that a file imports, but for those that only say something."""
    files: set[Path] = set()
    for module, name in _read(path)[1]:
        place = folder.joinpath(*module.split("."))
        files |= {place.with_suffix(".py"), (place / name).with_suffix(".py")}
    silent = {folder / PACKAGE / f"{name}.py" for name in SILENT}
    return {file for file in files - silent if file.is_file()}


def _is_docstring(node: object) -> bool:
    """Whether a statement is a text that stands for itself."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
