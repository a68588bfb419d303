import subprocess
import sys

import cores
import pytest


@pytest.mark.parametrize(
    ("here", "gib", "cpu_limit", "memory_limit", "wanted"),
    [
        (8, 64, ["max"], ["max"], 8),
        (8, 9, ["max"], ["max"], 4),
        (8, 64, ["250000", "100000"], ["max"], 2),
        (8, 64, ["50000", "100000"], ["max"], 1),
        (8, 64, ["max", "100000"], [str(6 * 2**30)], 3),
        (2, 1, ["max"], ["max"], 1),
    ],
)
def test_cores_are_those_that_time_and_memory_allow(here, gib, cpu_limit, memory_limit, wanted):
    assert cores.usable(here, gib * 2**30, cpu_limit, memory_limit) == wanted


def test_it_says_a_number_that_make_can_use():
    said = subprocess.run(
        [sys.executable, cores.__file__], capture_output=True, text=True, check=True
    )
    assert int(said.stdout) >= 1
