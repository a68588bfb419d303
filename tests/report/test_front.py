"""The first screen: its sentences and numbers are those of the table, and say how sure they are."""

import pandas as pd
import pytest
from coda.evaluation.estimates import ALL
from coda.report.front import front_page, named, scope


def row(method, split, value, metric="accuracy", baseline=None, spread=0.04):
    low, high = (None, None) if spread is None else (value - spread, value + spread)
    place = {"train_source": ALL, "target_source": ALL, "level": "image", "metric": metric}
    return place | {
        "method": method,
        "split": split,
        "baseline": baseline,
        "value": value,
        "low": low,
        "high": high,
    }


def summary(gain=0.25, split="held_out", spread=0.04, others=()):
    """Scores of a home, the unadapted model, CODA and some other methods."""
    rows = [
        row("in_domain", "validation", 0.7),
        row("unadapted", split, 0.3),
        row("coda", split, 0.3 + gain),
        row("coda", split, gain, "difference", "unadapted", spread),
        # Better than any method, but nothing that one could choose.
        row("position", split, 0.99),
        row("chance", split, 0.1),
    ]
    table = pd.DataFrame([*rows, *others])
    return table.astype({"low": float, "high": float})


def test_numbers_are_those_of_the_table_and_the_gain_is_clear():
    said, numbers = front_page(summary())
    assert [value for value, _, _ in numbers] == ["70.0 %", "30.0 %", "55.0 %"]
    assert numbers[2][1] == "in other labs, with CODA"
    assert numbers[0][2] == "66.0 to 74.0"
    assert said == (
        "At home the classifier names the mechanism of 70 % of the images right. On held-out plates of other labs it "
        "names 30 % right as it is, and 55 % with CODA. The gain of 25.0 points is clear on these compounds (95 % "
        "interval +21.0 to +29.0 points). That is 15.0 points below at home."
    )


@pytest.mark.parametrize(
    ("gain", "words"),
    [(0.03, "gain of 3.0 points"), (-0.02, "loss of 2.0 points")],
)
def test_a_difference_within_chance_is_called_so(gain, words):
    said, _ = front_page(summary(gain))
    assert words in said and "is within chance (" in said and "clear" not in said


def test_a_loss_may_be_clear_too():
    said, _ = front_page(summary(-0.2))
    assert "loss of 20.0 points is clear" in said


def test_the_best_of_several_is_said_to_be_flattered():
    others = [row("harmonised_unadapted", "held_out", 0.4), row("oda", "held_out", 0.35)]
    said, numbers = front_page(summary(others=others))
    assert numbers[2][1] == "in other labs, with CODA, the best of 4 methods"
    assert "; the best of several methods looks a little better than it is." in said


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (0.39, "Whether that is as good as at home is open: the intervals overlap."),
        (0.55, "15.0 points above at home."),
    ],
)
def test_what_is_as_good_as_at_home_is_not_called_better(gain, words):
    said, _ = front_page(summary(gain))
    assert said.endswith(words)


def test_without_held_out_plates_it_is_about_adapted_ones_and_without_interval_it_says_so():
    said, _ = front_page(summary(split="adapted", spread=None))
    assert "On the plates of other labs that it was adapted to it names" in said
    assert "has no interval to say how sure it is." in said


def test_without_another_method_there_are_numbers_alone():
    table = summary()
    said, numbers = front_page(table[table["method"] != "coda"])
    assert said == "" and [value for value, _, _ in numbers] == ["70.0 %", "30.0 %"]


def test_the_scope_counts_plates_compounds_and_mechanisms():
    sources = ["source_3", "source_5", "source_5"]
    plates = pd.DataFrame({"Metadata_Source": sources, "Metadata_Plate": list("ABB")})
    plates["subset"] = ["validation", "train", "train"]
    quality = pd.DataFrame(
        {"Metadata_JCP2022": ["c1", "c1", "c2", "c3"], "Metadata_moa": ["m", "m", "m", None]}
    )
    said = scope(plates, quality, [("source_5", "source_3"), ("source_5", "source_11")])
    assert said.startswith(
        "Trained on source 5, tested on source 3 (held-out plate A) and source 11. "
    )
    assert said.endswith("2 plates with 2 compounds of 1 mechanisms.")
    both = scope(plates, quality, [("source_5", "source_3"), ("source_3", "source_5")])
    assert both.startswith("Trained on each of source 3 and source 5 and tested on the others. ")
    assert named({"source_11", "source_3", "source_5"}) == "source 3, source 5 and source 11"
