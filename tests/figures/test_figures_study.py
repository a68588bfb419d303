"""Figures of the comparison: right with one pair and legible with many methods, sources and mechanisms."""

import itertools

import numpy as np
import pandas as pd
import pytest
import yaml
from coda.errors import UserError
from coda.evaluation.estimates import Key, estimates_table
from coda.evaluation.metrics import score
from coda.evaluation.scores import estimate_all, score_predictions
from coda.evaluation.significance import ALPHA
from coda.evaluation.units import classes_of, target_splits, units
from coda.figures.accuracy import accuracy_bars
from coda.figures.calibration import error_in_words, reliability
from coda.figures.gains import recall_gains
from coda.figures.matrix import is_shown, matrix_map
from coda.figures.slopes import apart, slope_chart
from coda.figures.style import PAGE
from coda.methods import COMPOSED, method_name
from drawings import assert_readable, overlapping
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from places import ROOT
from predictions import make_predictions, write_world

MANY = ["unadapted", "oda", "coda", "coda_batch", "coda_labs", "unadapted_aligned", "unadapted_aligned_dmso",
        "coda_aligned_dmso", "supervised", "supervised_tent", "unadapted_knn_sphered", "oracle", "intensity",
        "position", "shuffled", "coda_batch_aligned_dmso_linear"]  # fmt: skip
PLATES = pd.DataFrame(
    {
        "Metadata_Source": "source_1",
        "Metadata_Plate": ["P1", "P2"],
        "subset": ["train", "validation"],
    }
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One training source, one target."""
    files, plates = write_world(tmp_path_factory.mktemp("world"))
    files = [file for file in files if file["train_source"] == "source_1"]
    return score_predictions(files, plates, replicates=50).summary


def all_pairs(sources, methods):
    """A summary of every pair of sources, with accuracies from 0.1 to 0.35 but 0.6 in domain."""
    random, rows = np.random.default_rng(0), []
    for train in sources:
        home = {"train_source": train, "target_source": train, "split": "validation"}
        rows.append(home | {"method": "in_domain", "metric": "accuracy", "value": 0.6})
        for target in set(sources) - {train}:
            for split in ("adapted", "held_out"):
                for method in [*methods, "chance"]:
                    run = {"train_source": train, "target_source": target, "split": split}
                    run |= {"method": method, "value": random.uniform(0.1, 0.35)}
                    rows.append(run | {"metric": "accuracy"})
                    test = {"metric": "difference", "baseline": "unadapted"}
                    if method not in ("unadapted", "chance"):
                        rows.append(run | test | {"p": 0.01, "p_holm": random.uniform(0, 0.2)})
    table = pd.DataFrame(rows).assign(level="image", n=100, seeds=3, pairs=1, reason=None)
    return table.assign(low=table["value"] - 0.05, high=table["value"] + 0.05)


@pytest.fixture(scope="module")
def large():
    """Four sources, every pair, with many methods."""
    return all_pairs(("source_3", "source_5", "source_8", "source_11"), MANY)


def fields(axes):
    """Accuracies printed in a panel of the matrix, by row and column."""
    places = {tuple(map(round, text.get_position()[::-1])): text.get_text() for text in axes.texts}
    return {place: float(text) / 100 for place, text in places.items()}


def test_many_methods_and_pairs_stay_legible_on_a_page(large):
    figure = accuracy_bars(large).figure
    assert_readable(figure)
    assert figure.get_size_inches()[1] <= PAGE
    names = figure.axes[0].get_yticklabels()
    assert not overlapping(names)
    assert {name.get_text() for name in names} == {method_name(method) for method in MANY}
    titles = [axes.get_title() for axes in figure.axes]
    assert len(set(titles)) == 12 and titles[0] == "source 3 to source 5"


def test_a_star_is_a_difference_that_survives(large):
    drawing = accuracy_bars(large)
    drawn = sum(text.get_text() == "*" for axes in drawing.figure.axes for text in axes.texts)
    methods = drawing.table[~drawing.table["method"].isin(["intensity", "position", "shuffled"])]
    assert drawn == (methods["p_holm"] < ALPHA).sum() > 0


def test_matrix_has_every_pair_and_in_domain_on_the_diagonal(large):
    drawing = matrix_map(large)
    assert_readable(drawing.figure)
    assert drawing.figure.get_size_inches()[1] <= PAGE
    panels = [axes for axes in drawing.figure.axes if axes.texts]
    shown = [
        "unadapted",
        "coda",
        "unadapted_aligned_dmso",
        "coda_aligned_dmso",
    ]
    assert {axes.get_title().replace("\n", " ") for axes in panels} == {
        method_name(method) for method in shown
    }
    assert len(panels) == 2 * len(shown)
    for axes in panels:
        found = fields(axes)
        assert len(found) == 16
        assert all(found[place, place] == 0.6 for place in range(4))
    wanted = large.query(
        "train_source == 'source_8' and target_source == 'source_3' and method == 'coda'"
        " and metric == 'accuracy' and split == 'adapted'"
    )["value"].item()
    first = next(axes for axes in panels if axes.get_title() == "CODA")
    assert fields(first)[2, 0] == pytest.approx(wanted, abs=0.005)
    assert set(MANY) < set(drawing.table["method"])


@pytest.mark.parametrize("sources", [2, 4, 8, 12])
@pytest.mark.parametrize("methods", [2, 8])
def test_numbers_of_the_matrix_fit_their_fields_or_are_left_out(sources, methods):
    drawn = [name for name in COMPOSED if is_shown(name)]
    names = [drawn[0], "coda"] if methods == 2 else drawn
    summary = all_pairs([f"source_{number}" for number in range(1, sources + 1)], names)
    figure = matrix_map(summary).figure
    assert_readable(figure)
    assert figure.get_size_inches()[1] <= PAGE
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert len(panels) == 2 * methods
    assert not overlapping(axes.title for axes in panels)
    for axes in panels:
        width = axes.get_window_extent().width / sources
        height = axes.get_window_extent().height / sources
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) in (0, sources**2)
        assert all(box.width < width and box.height < height for box in boxes)
        assert not overlapping(axes.get_yticklabels())
        # Upright names' boxes are their own; those of turned ones are wider than they are.
        assert panels[0].texts or not overlapping(axes.get_xticklabels())
        # The best accuracy is the darkest; all panels share the scale.
        assert axes.images[0].get_clim() == (0, 0.6)
    assert bool(panels[0].texts) == (sources <= 4 or (methods == 2 and sources < 12))
    bars = [axes for axes in figure.axes if not axes.get_title() and axes.get_visible()]
    assert len(bars) == 2


def test_the_matrix_has_the_methods_that_are_compared_by_default():
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    networks = [name for name in config["methods"] if COMPOSED[name].head == "task_model"]
    assert "harmonised_coda_consensus" in networks and all(map(is_shown, networks))


def test_every_column_of_the_matrix_names_its_targets():
    names = [name for name in COMPOSED if is_shown(name)][:7]
    figure = matrix_map(all_pairs(("source_3", "source_5"), names)).figure
    panels = [axes for axes in figure.axes if axes.get_title()]
    named = [axes for axes in panels if axes.xaxis.get_tick_params()["labelbottom"]]
    assert len(named) == 2 * 4 and len(panels) == 2 * 7


def test_matrix_and_slopes_of_one_pair(small):
    drawing = matrix_map(small)
    assert_readable(drawing.figure)
    rows = drawing.table.set_index(["method", "split"])["value"]
    home = pytest.approx(rows["in_domain", "validation"], abs=0.005)
    assert fields(drawing.figure.axes[0]) == {
        (0, 0): home,
        (0, 1): pytest.approx(rows["unadapted", "adapted"], abs=0.005),
        (1, 0): home,
        (1, 1): pytest.approx(rows["coda", "adapted"], abs=0.005),
    }
    slopes = slope_chart(small)
    assert_readable(slopes.figure)
    for axes, split in zip(slopes.figure.axes, ("adapted", "held_out"), strict=True):
        line = axes.lines[0].get_ydata()
        assert line == pytest.approx([rows["unadapted", split], rows["coda", split]])


def test_the_matrix_of_one_training_source_has_methods_down_and_home_first():
    names = [name for name in COMPOSED if is_shown(name)]
    summary = all_pairs(("source_3", "source_5", "source_8"), names)
    summary = summary[summary["train_source"] == "source_5"]
    drawing = matrix_map(summary)
    assert_readable(drawing.figure)
    panels = drawing.figure.axes[:2]
    assert [label.get_text() for label in panels[0].get_xticklabels()] == [
        "source 5, at home",
        "source 3",
        "source 8",
    ]
    table = drawing.table.set_index(["method", "split", "target_source"])["value"]
    for axes, split in zip(panels, ("adapted", "held_out"), strict=True):
        found = fields(axes)
        assert len(found) == 3 * len(names)
        for row, label in enumerate(panels[0].get_yticklabels()):
            method = next(name for name in names if method_name(name) == label.get_text())
            assert found[row, 0] == 0.6
            for column, target in ((1, "source_3"), (2, "source_8")):
                wanted = table[method, split, target]
                assert found[row, column] == pytest.approx(wanted, abs=0.005)


def test_slopes_of_many_pairs(large):
    figure = slope_chart(large).figure
    assert_readable(figure)
    assert figure.get_size_inches()[1] <= PAGE
    for axes in figure.axes:
        names = [text for text in axes.texts if text.get_text().startswith("source")]
        assert len(names) == 3 and not overlapping(names)


def test_slopes_need_both_ends(small):
    with pytest.raises(UserError, match="unadapted and coda"):
        slope_chart(small[small["method"] != "coda"])


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_labels_are_moved_apart_and_keep_their_order(places):
    moved = apart(np.array(places), 0.05)
    assert (np.diff(np.sort(moved)) > 0.05 - 1e-3).all()
    assert (np.diff(moved[np.argsort(places, kind="stable")]) > -1e-9).all()
    assert moved.mean() == pytest.approx(np.mean(places))


@pytest.mark.parametrize("classes", [4, 54])
def test_gains_are_differences_of_recall(classes):
    before, after = (
        make_predictions(3, classes, compounds=6, sites=2, skill=skill) for skill in (0.5, 2.5)
    )
    drawing = recall_gains(before, after, PLATES, replicates=200)
    assert_readable(drawing.figure)
    assert not overlapping(drawing.figure.axes[0].get_yticklabels())
    names = classes_of(before)
    for split in ("adapted", "held_out"):
        rows = drawing.table[drawing.table["split"] == split]
        for column, table in (("before", before), ("after", after)):
            expected = score(target_splits(table, PLATES)[split], names)["macro_recall"].value
            assert rows[column].mean() == pytest.approx(expected)
        assert rows["gain"].to_numpy() == pytest.approx(rows["after"] - rows["before"])
        assert ((rows["low"] <= rows["gain"]) & (rows["gain"] <= rows["high"])).all()
        assert (rows["n"] == 12).all()


def test_gain_against_itself_is_nothing_and_few_wells_have_no_interval():
    table = make_predictions(1, 3, compounds=6)
    same = recall_gains(table, table, PLATES, replicates=50).table
    assert (same[["gain", "low", "high"]] == 0).all(axis=None)
    few = make_predictions(1, 3, compounds=2)
    few = few[(few["Metadata_moa"] != "moa 2") | (few["Metadata_Plate"] == "P1")]
    found = recall_gains(few, few, PLATES, replicates=50).table
    assert found[["low", "high"]].isna().all(axis=None)
    assert found["reason"].notna().all()
    absent = found[(found["moa"] == "moa 2") & (found["split"] == "held_out")]
    assert absent["gain"].isna().all() and (absent["reason"] == "no labelled images").all()


def test_reliability_adds_up_to_the_calibration_error():
    before, after = (make_predictions(2, 5, compounds=8, skill=skill) for skill in (0.5, 3.0))
    drawing = reliability(before, after, PLATES, replicates=100)
    assert_readable(drawing.figure)
    names = classes_of(before)
    for title, table in (("Unadapted", before), ("CODA", after)):
        for split, rows in target_splits(table, PLATES).items():
            bins = drawing.table.set_index(["panel", "split"]).loc[(title, split)]
            error = (bins["share"] * (bins["accuracy"] - bins["confidence"]).abs()).sum()
            found = score(rows, names)
            assert error == pytest.approx(found["calibration_error"].value)
            accuracy = (bins["share"] * bins["accuracy"]).sum()
            assert accuracy == pytest.approx(found["accuracy"].value)
            assert bins["confidence"].between(bins["from"], bins["to"]).all()
            words = [
                text.get_text() for text in drawing.figure.findobj(lambda x: hasattr(x, "get_text"))
            ]
            assert any(f"calibration error {error:.2f} [" in text for text in words)


def test_the_legend_has_the_interval_of_the_table():
    rows = make_predictions(2, 5, compounds=8, skill=0.5)
    names = classes_of(rows)
    by, _ = estimate_all(rows, names, "image", 100, 0)
    key = Key("source_1", "source_2", 0, "coda", "adapted", "image")
    table = estimates_table({key: by}).set_index("metric")
    value, low, high = table.loc["calibration_error", ["value", "low", "high"]]
    assert low <= value <= high
    words = f"calibration error {value:.2f} [{low:.2f}, {high:.2f}]"
    assert error_in_words(units(rows, names, "image"), 100, 0) == words


def test_nothing_labelled_is_refused():
    table = make_predictions()
    blank = table.assign(Metadata_moa=None)
    for draw in (recall_gains, reliability):
        with pytest.raises(UserError, match="no labelled sites"):
            draw(blank, blank, PLATES, replicates=50)


def test_slopes_of_eleven_sources_fit_a_page_with_every_target_named():
    sources = [f"source_{number}" for number in range(1, 12)]
    figure = slope_chart(all_pairs(sources, ["unadapted", "coda"])).figure
    assert_readable(figure)
    assert figure.get_size_inches()[1] <= PAGE + 1e-9
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 22
    for axes in shown:
        names = [text for text in axes.texts if text.get_text().startswith("source")]
        # Without the lines that lead to them, which a name's own extent would hold too.
        boxes = [Text.get_window_extent(name) for name in names]
        pairs = itertools.combinations(boxes, 2)
        assert len(names) == 10 and not any(one.overlaps(other) for one, other in pairs)
