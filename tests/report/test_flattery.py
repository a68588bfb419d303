"""What the first screen says of known compounds, new ones and controls is what the tables hold."""

import pandas as pd
import pytest
from coda.evaluation.estimates import ALL
from coda.methods import COMPOSED
from coda.report.flattery import (
    beaten_by_controls,
    caution,
    fixed_positions,
    flattery,
    on_new_compounds,
)
from coda.report.words import explained, glossary

PLACE = {"train_source": ALL, "target_source": ALL, "level": "image"}


def score(method, value, split="held_out", experiment=None, **more):
    row = PLACE | {"method": method, "split": split, "metric": "accuracy", "baseline": None}
    spread = {"low": value - 0.1, "high": value + 0.1}
    spread |= {"low_compounds": value - 0.2, "high_compounds": value + 0.2}
    return row | spread | {"value": value, "experiment": experiment} | more


def above(method, control, low, high):
    more = {
        "metric": "difference",
        "baseline": control,
        "low_compounds": low,
        "high_compounds": high,
    }
    return score(method, (low + high) / 2, **more)


SUMMARY = pd.DataFrame(
    [
        score("in_domain", 0.7, "validation"),
        score("unadapted", 0.3),
        score("harmonised_unadapted", 0.5),
        score("coda_consensus", 0.6),
        score("intensity", 0.4),
        above("unadapted", "intensity", -0.3, -0.1),
        above("harmonised_unadapted", "intensity", -0.1, 0.3),
        above("coda_consensus", "intensity", 0.1, 0.3),
    ]
)


def experiments(*methods):
    values = {"known_compounds": 0.5, "new_compounds": 0.4}
    return pd.DataFrame(
        [
            score(method, value, "validation" if method == "in_domain" else "held_out", kind)
            for kind, value in values.items()
            for method in ("in_domain", "unadapted", *methods)
        ]
    )


def sites(moved=False):
    """Two compounds on a training plate and on one of another lab; the second may change its well there."""
    rows = [
        ("source_5", "A", "c1", "A01"),
        ("source_5", "A", "c2", "B01"),
        ("source_3", "B", "c1", "A01"),
        ("source_3", "B", "c2", "B02" if moved else "B01"),
    ]
    columns = ["Metadata_Source", "Metadata_Plate", "Metadata_JCP2022", "Metadata_Well"]
    return pd.DataFrame(rows, columns=columns).assign(Metadata_moa="m")


PLATES = pd.DataFrame(
    {
        "Metadata_Source": ["source_5", "source_3"],
        "Metadata_Plate": ["A", "B"],
        "subset": ["train", "validation"],
    }
)


def said(quality, trials=None):
    return flattery(SUMMARY, PLATES, quality, {"source_5"}, trials)


def test_known_compounds_in_known_wells_are_told():
    assert said(sites()).startswith(
        "These numbers flatter: all 2 compounds were trained on, and 2 stand in the same wells on every plate."
    )
    assert "and 1 stand in the same wells" in said(sites(moved=True))
    other = sites()
    other.loc[3, "Metadata_JCP2022"] = "c3"
    assert "2 of the 3 compounds were trained on, and 1 stand" in said(other)
    assert fixed_positions(sites().iloc[:2]) == 0  # one plate shows nothing of layouts


def test_without_the_experiment_it_is_said_that_new_compounds_were_not_measured():
    assert said(sites()).endswith("was not measured (experiments.run: [compounds]).")
    assert on_new_compounds(SUMMARY, None) == []


def test_new_compounds_are_shown_for_the_best_method_where_it_was_run_on_them():
    trials = experiments("harmonised_unadapted", "coda_consensus")
    words = said(sites(), trials)
    assert "at home 40.0 % (50.0 % on known ones); unadapted 40.0 % (50.0 % on known ones)" in words
    assert "CODA with consensus 40.0 %" in words and "was not run" not in words
    ((value, what, interval),) = on_new_compounds(SUMMARY, trials)
    assert (value, interval) == ("40.0 %", "20.0 to 60.0")
    assert what.endswith("not learned, with CODA with consensus; interval over compounds")


def test_a_best_method_that_was_not_run_on_new_compounds_is_named():
    words = said(sites(), experiments("harmonised_unadapted"))
    assert "Harmonised 40.0 %" in words and "CODA with consensus was not run on them" in words
    assert on_new_compounds(SUMMARY, experiments()) == []
    ((_, what, _),) = on_new_compounds(SUMMARY, experiments("harmonised_unadapted"))
    assert "with Harmonised (the best was not run on them);" in what


def test_methods_that_are_not_above_a_control_are_named():
    (words,) = beaten_by_controls(SUMMARY)
    assert words == (
        "Intensities only names 40.0 % right, without the shape of cells. Clearly below it, over compounds: "
        "Unadapted. Not clearly above it, over compounds: Harmonised."
    )
    rows = SUMMARY["baseline"] == "intensity"
    ends = {"low_compounds": -0.3, "high_compounds": -0.1}
    below = SUMMARY.assign(**{end: SUMMARY[end].mask(rows, value) for end, value in ends.items()})
    assert beaten_by_controls(below)[0].endswith(
        "Every method is clearly below it, over compounds."
    )
    layout = below.replace(
        {"baseline": {"intensity": "position"}, "method": {"intensity": "position"}}
    )
    assert "The layout of the plates alone gives mechanisms away" in beaten_by_controls(layout)[0]
    clear = SUMMARY.assign(low_compounds=SUMMARY["low_compounds"].mask(rows, 0.1))
    assert beaten_by_controls(clear) == []


def test_what_one_must_know_before_one_quotes_the_numbers():
    assert caution(SUMMARY) == ""  # the best method is above the control
    rows = SUMMARY["baseline"] == "intensity"
    close = SUMMARY.assign(low_compounds=SUMMARY["low_compounds"].mask(rows, -0.1))
    assert caution(close, experiments("harmonised_unadapted")) == (
        "Read them with care: intensities only, without the shape of cells, names 40.0 % right; on compounds that were "
        "not learned it is 40.0 % with another method."
    )
    assert "another" not in caution(close, experiments("coda_consensus"))


@pytest.mark.parametrize("name", COMPOSED)
def test_every_part_of_a_method_is_explained(name):
    made = COMPOSED[name]
    parts = made.harmonised + bool(made.alignment) + (made.head == "supervised")
    parts += made.adaptation not in ("unadapted", "oracle")
    assert len(list(filter(None, explained(name).split("; ")))) == parts
    words = dict(glossary([name]))
    assert all(words.values())
    assert ("harmonised" in words) == made.harmonised
