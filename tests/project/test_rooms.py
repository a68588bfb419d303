"""Imports of the library go one way, from each stage to those before it; tests import no other tests."""

import ast
import graphlib
from collections import Counter
from pathlib import Path

import pytest
from places import ROOT, SCRIPTS

LIBRARY = SCRIPTS / "coda"
GROUND = "ground"
# What each room may import besides itself.
STAGES = [GROUND, "gallery", "crops", "training", "evaluation"]
MAY_IMPORT = {room: set(STAGES[:number]) for number, room in enumerate(STAGES)}
MAY_IMPORT |= {room: set(STAGES) for room in ("figures", "report", "predict")}
MAY_IMPORT["simulation"] = {GROUND}


def imported(path: Path) -> set[Path]:
    """Files of the library that a file imports, also from within functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] == "coda":
                place = LIBRARY.parent.joinpath(*name.split("."))
                found |= {
                    file
                    for file in (place.with_suffix(".py"), place / "__init__.py")
                    if file.is_file()
                }
    return found - {path, LIBRARY / "__init__.py"}


def room_of(path: Path) -> str:
    parts = path.relative_to(LIBRARY).parts
    return parts[0] if len(parts) > 1 else GROUND


MODULES = sorted(LIBRARY.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_a_module_imports_from_its_own_room_and_those_before_it_only(path):
    room = room_of(path)
    strangers = {
        str(other.relative_to(LIBRARY))
        for other in imported(path)
        if room_of(other) != room and room_of(other) not in MAY_IMPORT[room]
    }
    assert strangers == set()


def test_no_modules_import_each_other_in_a_circle():
    list(graphlib.TopologicalSorter({path: imported(path) for path in MODULES}).static_order())


def test_a_package_s_own_file_holds_a_docstring_and_nothing_else():
    for path in LIBRARY.rglob("__init__.py"):
        (only,) = ast.parse(path.read_text()).body
        assert isinstance(only, ast.Expr), path


TESTS = sorted((ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_tests_share_is_a_helper_or_a_fixture(path):
    """Whole files of tests and conftest.py are for pytest to find, not to import by name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        assert not [name for name in names if name.startswith(("test_", "conftest"))]


def test_names_of_test_modules_and_helpers_are_unique():
    """Pytest imports them by their names alone."""
    counts = Counter(path.stem for path in TESTS if path.stem != "conftest")
    assert [name for name, count in counts.items() if count > 1] == []
