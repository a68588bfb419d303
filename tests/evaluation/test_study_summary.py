"""Summaries of the study by hand."""

import math

import pandas as pd
import pytest
from study_summary import (
    accuracies,
    differences,
    gap_closed,
    is_rival,
    mean_and_interval,
    worst_pair,
)

RIGHT = {
    ("w1", "t1"): (20, 80, 50),
    ("w1", "t2"): (40, 60, 30),
    ("w2", "t1"): (30, 90, 60),
    ("w2", "t2"): (50, 70, 60),
}
METHODS = ("unadapted", "harmonised coda_consensus", "SHOT")
SCORES = pd.DataFrame(
    [
        (world, target, method, "held_out", "image", right, 100)
        for (world, target), values in RIGHT.items()
        for method, right in zip(METHODS, values, strict=True)
    ]
    + [(world, "home", "in domain", "held_out", "image", 90, 100) for world in ("w1", "w2")],
    columns=["world", "target", "method", "split", "level", "right", "units"],
)


def test_a_world_counts_once_as_the_mean_of_its_targets():
    wide = accuracies(SCORES, "held_out")
    assert wide.loc["w1"].to_dict() == pytest.approx(
        {"unadapted": 0.3, "harmonised coda_consensus": 0.7, "SHOT": 0.4, "in domain": 0.9}
    )
    closed = gap_closed(wide)["harmonised coda_consensus"]
    assert closed.to_list() == pytest.approx([0.4 / 0.6, 0.4 / 0.5])


def test_a_method_that_some_world_lacks_is_left_out():
    part = SCORES[~((SCORES["world"] == "w2") & (SCORES["method"] == "SHOT"))]
    assert "SHOT" not in accuracies(part, "held_out")


def test_harm_is_that_of_the_worst_pair():
    assert worst_pair(SCORES, "held_out")["SHOT"] == pytest.approx(-0.1)


def test_differences_are_paired_by_world():
    found = differences(accuracies(SCORES, "held_out"))
    assert list(found.index) == ["SHOT"]
    # Differences 0.3 and 0.2: standard error 0.05, t of one degree of freedom 12.706.
    assert found.loc["SHOT"].to_list() == pytest.approx(
        [0.25, 0.25 - 0.6353, 0.25 + 0.6353], abs=1e-4
    )


def test_interval_of_one_world_is_unknown():
    assert math.isnan(mean_and_interval([0.5])[1])


def test_what_is_own_and_what_a_rival():
    assert is_rival("coda, aligned") and is_rival("SHOT, harmonised") and is_rival("Linear, CORAL")
    assert not is_rival("unadapted, aligned") and not is_rival("harmonised, aligned on DMSO")
