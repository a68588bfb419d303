"""What the report says of prediction sets is what their table holds."""

import pandas as pd
from coda.report.prediction_sets import set_findings, set_table
from score_tables import coverage


def test_words_tell_what_was_asked_for_and_what_was_reached():
    said = set_findings(coverage())
    assert "right one for 90 % of compounds" in said
    assert "At home they held the right mechanism of 90 % of compounds" in said
    assert "Unadapted: 25 % to 50 %; CODA: 100 %." in said


def test_seeds_are_averaged():
    table = coverage()
    other = table.assign(seed=2, coverage=table["coverage"] / 2)
    both = pd.concat([table, other])
    assert "Unadapted: 19 % to 38 %; CODA: 75 %." in set_findings(both)


def test_the_table_has_a_row_a_pair_and_method_those_at_home_first():
    table = set_table(coverage())
    assert table["target"].tolist() == ["at home", "source 2", "source 2"] + [
        "at home",
        "source 1",
        "source 1",
    ]
    assert table["method"].tolist() == ["Unadapted", "Unadapted", "CODA"] * 2
    row = table.iloc[1]
    assert row["hold the right one"] == "0.25 [0.00, 0.50]" and row["mean size"] == "1.5"
    assert row["empty"] == "25 %" and row["lowest mechanism"] == "moa b: 0.12"


def test_what_one_compound_says_has_no_interval():
    table = set_table(coverage().assign(low=float("nan"), high=float("nan")))
    assert table.iloc[1]["hold the right one"] == "0.25"
