"""A digest that follows what code computes, and nothing else."""

from pathlib import Path

import pytest
from coda.code_digest import code_digest

FILES = {
    "train.py": '"""Train."""\nfrom coda.loss import loss\nloss(1)\n',
    "coda/loss.py": (
        "from coda.errors import UserError\nfrom coda.room import part\n\n\n"
        'def loss(x):\n    """Give the loss."""\n    if x < 0:\n'
        '        raise UserError(f"{x} is negative")\n'
        '    print(x, "seen")\n    return part.share(x) * 0.9  # weighted\n'
    ),
    "coda/room/__init__.py": '"""A room."""\n',
    "coda/room/part.py": "def share(x):\n    return 3 * x\n",
    "coda/errors.py": "class UserError(Exception):\n    pass\n",
    "coda/unused.py": "NUMBER = 1\n",
}


def digest(folder: Path, **changes: tuple[str, str]) -> str:
    """Write the files, each with what it says replaced, and give the digest of the script."""
    for name, text in FILES.items():
        old, new = changes.get(Path(name).stem, ("", ""))
        assert old in text
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(old, new) if old else text)
    return code_digest(folder / "train.py")


@pytest.mark.parametrize(
    "change",
    [
        {"train": ("Train.", "Train a network.")},
        {"loss": ("Give the loss.", "What is minimised.")},
        {"loss": ("# weighted", "# by the paper")},
        {"loss": ("is negative", "must not be negative")},
        {"loss": ('"seen"', '"was seen"')},
        {"loss": ("0.9", "(\n        0.9\n    )")},
        {"errors": ("pass", "status = 1")},
        {"unused": ("1", "2")},
    ],
)
def test_words_and_code_that_is_not_used_leave_it_alone(tmp_path, change):
    assert digest(tmp_path / "new", **change) == digest(tmp_path / "old")


@pytest.mark.parametrize(
    "change",
    [
        {"train": ("loss(1)", "loss(2)")},
        {"loss": ("0.9", "0.99")},
        {"loss": ("x < 0", "x <= 0")},
        {"part": ("3 * x", "x * 3")},
    ],
)
def test_what_is_computed_changes_it_however_far_behind(tmp_path, change):
    assert digest(tmp_path / "new", **change) != digest(tmp_path / "old")
