"""What a good mean hides is told: mechanisms, confidences, labs that lie apart; and nothing where nothing is weak."""

import pandas as pd
from coda.report.weak_points import weak_points

PLACE = {
    "train_source": "all",
    "target_source": "all",
    "level": "image",
    "split": "held_out",
    "baseline": None,
}


def summary(error=0.25):
    rows = [
        ("unadapted", "accuracy", 0.3),
        ("coda", "accuracy", 0.5),
        ("coda", "calibration_error", error),
    ]
    return pd.DataFrame(
        [
            PLACE | {"method": method, "metric": metric, "value": value}
            for method, metric, value in rows
        ]
    )


def representation(same=0.9, chance=0.5):
    return pd.DataFrame(
        {
            "method": ["unadapted", "coda"],
            "metric": "purity_source",
            "value": [1.0, same],
            "chance": chance,
        }
    )


def gains(worst=-0.1):
    rows = [
        ("source_8", "adapted", "A", 0.6, worst),
        ("source_8", "held_out", "A", 0.5, 0.2),
        ("source_3", "held_out", "A", 0.4, worst),
        ("source_3", "held_out", "B", 0.9, 0.5),
        ("source_3", "held_out", "C", None, None),
    ]
    return pd.DataFrame(rows, columns=["target_source", "split", "moa", "after", "high"]).assign(
        train_source="source_5"
    )


def test_everything_weak_is_told_in_numbers():
    assert weak_points(summary(), representation(), gains(), "coda") == [
        "Named right less often with CODA than unadapted, by intervals below zero: A (source 3).",
        "Mechanisms differ: with CODA, 45 % of the images of A are named right, 90 % of those of B.",
        "Confidences with CODA are off by 25 points on average (expected calibration error). Go by the sets of "
        "mechanisms, which are calibrated.",
        "Labs still lie apart in feature space: with CODA, 90 % of the nearest wells of a well are of its own lab "
        "(50 % if labs were mixed). Compare profiles within a lab.",
    ]  # fmt: skip


def test_without_held_out_plates_it_is_about_adapted_ones_and_pairs_are_named_where_several_labs_train():
    table = gains().assign(after=lambda rows: rows["after"].mask(rows["split"] == "held_out"))
    both = pd.concat([table, table.assign(train_source="source_11", moa="B")])
    first, second = weak_points(summary(0.05), representation(0.55), both, "coda")
    assert first.endswith("A (source 5 to source 8), B (source 11 to source 8).")
    assert second.startswith("Mechanisms differ: with CODA, 60 %")


def test_what_is_not_weak_is_not_told():
    found = weak_points(summary(0.05), representation(0.55), gains(0.1), "coda")
    assert len(found) == 1 and found[0].startswith("Mechanisms differ")
    assert weak_points(summary(0.05), representation(0.55), None, None) == []
    other = representation().replace("coda", "oda")  # no features of the best method were scored
    assert weak_points(summary(0.05), other, None, None) == []
