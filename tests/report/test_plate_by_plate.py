"""The table of plates shows the best method's shares, the worst plate first, and names plates that are clearly bad."""

import pandas as pd
from coda.report.plate_by_plate import plate_by_plate

SUMMARY = pd.DataFrame(
    [
        {"train_source": "all", "target_source": "all", "level": "image", "metric": "accuracy", "split": "held_out",
         "baseline": None, "method": method, "value": value, "low": value - 0.05, "high": value + 0.05}
        for method, value in {"unadapted": 0.3, "coda": 0.5}.items()
    ]
)  # fmt: skip


def rows(value=0.7, far=0.4, spread=0.05, train="source_5"):
    """A held-out plate at home and two plates of source 3: one adapted to, one held out."""
    table = [
        (train, train, "H", "validation", "in_domain", value),
        (train, "source_3", "A", "train", "unadapted", 0.3),
        (train, "source_3", "A", "train", "coda", 0.68),
        (train, "source_3", "B", "validation", "unadapted", 0.2),
        (train, "source_3", "B", "validation", "coda", far),
    ]
    columns = ["train_source", "Metadata_Source", "Metadata_Plate", "subset", "method", "value"]
    made = pd.DataFrame(table, columns=columns).assign(level="image", n=70, seeds=1)
    return made.assign(low=made["value"] - spread, high=made["value"] + spread)


def test_home_comes_first_then_the_worst_plate():
    table = plate_by_plate(rows(), SUMMARY)
    assert table.methods == ["as it is (unadapted)", "CODA"]
    assert [row[:3] for row in table.rows] == [
        ("H", "source 5, at home", "held out"),
        ("B", "source 3", "held out"),
        ("A", "source 3", "adapted to"),
    ]
    shares = [[share and share.percent for share in row[3]] for row in table.rows]
    assert shares == [[70.0, None], [20.0, 40.0], [30.0, 68.0]]
    assert table.rows[1][3][1].interval == "35 to 45"


def test_plates_that_are_clearly_worse_than_home_are_named():
    assert plate_by_plate(rows(), SUMMARY).sentence == (
        "With CODA, plates of other labs range from 40 % (B of source 3) to 68 % (A of source 3). Clearly worse than "
        "at home, by 95 % intervals that do not touch: B of source 3."
    )
    assert "None is clearly worse than at home" in plate_by_plate(rows(far=0.65), SUMMARY).sentence
    some = rows()
    some.loc[some["Metadata_Plate"] == "A", ["low", "high"]] = None
    assert plate_by_plate(some, SUMMARY).sentence.endswith("(A of source 3).")
    untold = plate_by_plate(rows(spread=float("nan")), SUMMARY)
    assert untold.sentence.endswith("(A of source 3).")
    assert untold.rows[1][3][1].interval == ""


def test_there_is_no_table_where_it_would_say_nothing():
    both = pd.concat([rows(), rows(train="source_8")])
    assert plate_by_plate(both, SUMMARY) is None
    assert plate_by_plate(rows(), SUMMARY.assign(level="compound"), "compound") is None
    home_only = rows().query("Metadata_Source == 'source_5'")
    assert plate_by_plate(home_only, SUMMARY) is None
