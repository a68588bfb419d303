"""The page on troubles quotes messages that the code can give, word for word."""

import ast
import re

import pytest
from places import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
QUOTES = re.findall(r"^> (.+)$", PAGE, re.M)


def templates() -> list[str]:
    """Every text of the code as a regular expression that stands for anything put into it."""
    found = []
    for path in [*ROOT.glob("scripts/coda/**/*.py"), ROOT / "tools/run_alone.py"]:
        tree = ast.parse(path.read_text())
        joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        inner = {id(value) for node in joined for value in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    re.escape(value.value) if isinstance(value, ast.Constant) else ".*"
                    for value in node.values
                ]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found += [re.escape(node.value)] if id(node) not in inner else []
    # A text that is little more than what is put into it would stand for everything.
    return [text for text in found if len(text.replace(".*", "")) > 15]


@pytest.fixture(scope="module")
def known() -> list[re.Pattern]:
    return [re.compile(text) for text in templates()]


@pytest.mark.parametrize("quote", QUOTES)
def test_a_quoted_message_stands_in_the_code(quote, known):
    assert any(pattern.fullmatch(quote) for pattern in known)


def test_the_search_would_miss_an_invented_message(known):
    invented = "The config has a wrong key adapt.epoch; did you mean epochs?"
    assert not any(pattern.fullmatch(invented) for pattern in known)


def test_the_page_holds_messages_and_names_files_that_are_there():
    assert len(QUOTES) > 20 and len(set(QUOTES)) == len(QUOTES)
    for name in re.findall(r"\]\(([\w./-]+)\)", PAGE):
        assert (ROOT / "docs" / name).exists(), name
