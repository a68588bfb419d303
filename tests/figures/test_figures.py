"""Figures: the numbers drawn, whole files, text that can be read and that does not overlap."""

import numpy as np
import pandas as pd
import pytest
from coda.columns import SITE_KEYS
from coda.crops.composite import LIGHT, composites, stretched
from coda.errors import UserError
from coda.evaluation.metrics import score
from coda.evaluation.scores import score_predictions
from coda.evaluation.units import classes_of
from coda.figures.accuracy import accuracy_bars
from coda.figures.confusion import confusion_matrices
from coda.figures.coverage import coverage_dots
from coda.figures.embedding import embedding_map
from coda.figures.montage import montage
from coda.figures.plates import sites_lost
from coda.figures.style import save_figure
from coda.figures.training import training_curves
from coda.methods import method_name
from drawings import assert_readable, overlapping
from predictions import make_predictions, write_world
from score_tables import coverage


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    files, plates = write_world(tmp_path_factory.mktemp("world"))
    return score_predictions(files, plates, replicates=50).summary


def test_bars_are_as_long_as_the_accuracies(summary):
    drawing = accuracy_bars(summary)
    assert_readable(drawing.figure)
    axes = drawing.figure.axes[0]
    assert axes.get_title() == "source 1 to source 2"
    drawn = sorted(bar.get_width() for bar in axes.patches if 0 < bar.get_height() < 0.5)
    wanted = drawing.table.query(
        "train_source == 'source_1' and split != 'validation' and method != 'chance'"
    )
    assert [width for width in drawn if width > 0] == pytest.approx(sorted(wanted["value"]))
    low, high = axes.get_xlim()
    assert low == 0 and high > drawing.table["high"].max()


def test_dots_stand_at_the_coverage_of_each_method_and_mechanism():
    drawing = coverage_dots(coverage())
    assert_readable(drawing.figure)
    axes = drawing.figure.axes[0]
    assert axes.get_title() == "source 1 to source 2"
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["at home", "Unadapted", "CODA"]
    places = {
        (round(x, 6), round(y))
        for line in axes.lines
        for x, y in zip(*line.get_data(), strict=True)
    }
    assert {(0.9, 0), (0.45, 0), (0.25, 1), (0.125, 1), (1.0, 2), (0.5, 2)} <= places


def test_coverage_of_targets_without_labels_is_refused_in_a_sentence():
    table = coverage()
    at_home = table[table["split"] == "validation"]
    with pytest.raises(UserError, match="no labelled sites to draw coverage of"):
        coverage_dots(at_home)


def test_files_are_whole_and_the_same_twice(summary, tmp_path):
    def drawn() -> list[bytes]:
        save_figure(accuracy_bars(summary), tmp_path / "bars")
        return [(tmp_path / f"bars{suffix}").read_bytes() for suffix in (".pdf", ".png", ".csv")]

    first, again = drawn(), drawn()
    assert first == again
    assert first[0].startswith(b"%PDF") and first[1].startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bars.csv", "bars.pdf", "bars.png"]


@pytest.mark.parametrize("classes", [4, 16, 54])
def test_confusion_is_right_and_legible(classes):
    before, after = (make_predictions(3, classes, compounds=2, skill=skill) for skill in (0.5, 2.0))
    renamed = {f"moa {index}": f"name of a receptor antagonist {index}" for index in range(classes)}
    tables = []
    for table in (before, after):
        table["Metadata_moa"] = table["Metadata_moa"].map(renamed)
        tables.append(
            table.rename(
                columns=lambda name: "Logit_" + renamed[name[6:]] if name[:6] == "Logit_" else name
            )
        )
    drawing = confusion_matrices(*tables)
    assert_readable(drawing.figure)
    for axes in drawing.figure.axes[:2]:
        assert not overlapping(axes.get_yticklabels())
        if classes > 16:
            assert not overlapping(axes.get_xticklabels())
    names = sorted(renamed.values())
    diagonal = drawing.table.query("true_class == predicted_class").groupby("panel")["share"].mean()
    for title, table in (("Unadapted", tables[0]), ("CODA", tables[1])):
        assert diagonal[title] == pytest.approx(score(table, names)["macro_recall"].value)
    totals = drawing.table.groupby(["panel", "true_class"])["share"].sum()
    assert totals.to_numpy() == pytest.approx(1.0)


def test_confusion_refuses_other_classes():
    with pytest.raises(UserError, match="different classes"):
        confusion_matrices(make_predictions(classes=3), make_predictions(classes=4))


def test_map_holds_every_labelled_well_and_keeps_classes_together():
    random = np.random.default_rng(0)
    tables = []
    for shift in (0.0, 6.0, 0.0):
        table = make_predictions(classes=3, compounds=6, plates=("P1",))
        label = table["Metadata_moa"].fillna("moa 0").str[-1].astype(int)
        centres = np.eye(3)[label] * 12 + shift * np.array([0, 0, 1])
        table["Embedding"] = list((centres + random.normal(size=centres.shape)).astype(np.float32))
        tables.append(table)
    tables[1]["Metadata_Source"] = tables[2]["Metadata_Source"] = "source_2"
    drawing = embedding_map(*tables, seed=1)
    assert_readable(drawing.figure)
    assert drawing.table.groupby("set").size().to_dict() == {
        "source": 18,
        "before": 18,
        "after": 18,
    }
    joined = drawing.table[drawing.table["set"] != "before"]
    places = joined[["x", "y"]].to_numpy()
    distance = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(len(places)) * 1e9
    nearest = joined["Metadata_moa"].to_numpy()[distance.argmin(axis=1)]
    assert (nearest == joined["Metadata_moa"]).mean() > 0.9
    again = embedding_map(*tables, seed=1, method="harmonised_coda_consensus_aligned_dmso")
    pd.testing.assert_frame_equal(again.table, drawing.table)
    assert_readable(again.figure)
    labels = [axes.yaxis.label for axes in again.figure.axes[:4:2]]
    said = [label.get_text().replace("\n", " ") for label in labels]
    assert said == ["Unadapted", method_name("harmonised_coda_consensus_aligned_dmso")]
    assert not overlapping(labels)


def test_training_curves_take_what_is_there():
    steps = pd.DataFrame(
        {"step": range(20), "epoch": np.repeat(np.arange(5), 4), "loss": np.linspace(5, 1, 20)}
    )
    runs = {
        "foundation": steps.assign(feature_deviation=1.0),
        "classifier": steps.assign(knn_accuracy=np.nan),
    }
    drawing = training_curves(runs, prototypes=256)
    assert_readable(drawing.figure)
    loss = drawing.table[drawing.table["run"] == "foundation"].set_index("epoch")["loss"]
    assert loss.to_dict() == pytest.approx(steps.groupby("epoch")["loss"].mean().to_dict())
    with pytest.raises(UserError, match="nothing to draw"):
        training_curves({"empty": pd.DataFrame({"epoch": [0], "other": [1]})})


def test_sites_lost_are_counted_by_well():
    rows = [
        ("source_1", "P1", well, site, "ok") for well in ("A01", "P24", "H12") for site in (1, 2, 3)
    ]
    quality = pd.DataFrame(
        rows,
        columns=["Metadata_Source", "Metadata_Plate", "Metadata_Well", "Metadata_Site", "status"],
    )
    quality.loc[[0, 3, 4, 5], "status"] = ["missing", "missing", "broken", "broken"]
    drawing = sites_lost(quality)
    assert_readable(drawing.figure)
    table = drawing.table.set_index("Metadata_Well")
    assert table["lost"].to_dict() == {"A01": 1, "H12": 0, "P24": 3}
    assert table.loc["P24", "statuses"] == "broken: 2, missing: 1"
    drawn = drawing.figure.axes[0].collections[0].get_array().reshape(16, 24)
    assert (drawn[0, 0], drawn[7, 11], drawn[15, 23], drawn[1, 1]) == (2, 1, 4, 0)
    with pytest.raises(UserError, match="no well"):
        sites_lost(quality.assign(Metadata_Well="well 1"))


@pytest.mark.parametrize("plates", [1, 2, 3, 4, 5])
def test_the_legend_of_sites_lost_fits_under_any_number_of_plates(plates):
    rows = [("source_1", f"P{number}", "A01", 1, "ok") for number in range(plates)]
    names = ["Metadata_Source", "Metadata_Plate", "Metadata_Well", "Metadata_Site", "status"]
    assert_readable(sites_lost(pd.DataFrame(rows, columns=names)).figure)


class Crops:
    """What the montage needs of a crop store: a table, channels and pixels that tell their row."""

    channels = ["DNA", "ER", "AGP"]

    def __init__(self, sources):
        tables = [
            make_predictions(index).assign(Metadata_Source=source)
            for index, source in enumerate(sources)
        ]
        self.table = pd.concat(tables, ignore_index=True)

    def um_per_pixel(self, source):
        return 2.0 if source == "source_1" else None

    def gather(self, indices):
        ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
        return np.stack(
            [
                np.stack([ramp + np.uint8(index + channel) for channel in range(3)])
                for index in indices
            ]
        )


@pytest.mark.parametrize(
    "sources", [("source_3", "source_11"), ("source_3", "source_5", "source_8", "source_11")]
)
def test_montage_shows_the_same_compounds_from_every_source(sources):
    drawing = montage(Crops(sources), number=4, seed=2)
    assert_readable(drawing.figure)
    shown = drawing.table.groupby("Metadata_Source")["Metadata_JCP2022"].agg(list)
    assert all(shown[source] == shown[sources[0]] for source in sources)
    assert drawing.table["Metadata_moa"].nunique() == 4
    labels = [axes.get_ylabel() for axes in drawing.figure.axes if axes.get_ylabel()]
    assert labels == [source.replace("_", " ") for source in sources] * 2
    assert classes_of(drawing.table) == []


def test_montage_without_common_compounds_says_so():
    crops = Crops(("source_3", "source_5"))
    crops.table["Metadata_JCP2022"] += crops.table["Metadata_Source"]
    with pytest.raises(UserError, match="every source"):
        montage(crops)


def test_montage_shows_flagged_sites_only_where_there_is_no_other():
    crops = Crops(("source_3", "source_5"))
    table = crops.table
    wells = table.groupby(["Metadata_Source", "Metadata_JCP2022"])
    worst = table.loc[table["Metadata_moa"].notna(), "Metadata_JCP2022"].min()
    bad = table["Metadata_JCP2022"] == worst  # at both sources
    table["Quality_ok"] = ~bad & (wells.cumcount() == 0)
    good = set(map(tuple, table.loc[table["Quality_ok"], SITE_KEYS].to_numpy()))
    number = table["Metadata_JCP2022"].nunique()
    for seed in range(3):
        shown = montage(crops, number=number, seed=seed).table
        fit = [tuple(site) in good for site in shown[SITE_KEYS].to_numpy()]
        assert fit == (shown["Metadata_JCP2022"] != worst).to_list() and not all(fit)


@pytest.mark.parametrize("plates", [1, 2, 3, 4, 5])
def test_the_legend_of_sites_lost_is_whole(plates):
    rows = [("source_1", f"P{plate}", "A01", "1", "ok") for plate in range(plates)]
    keys = [*SITE_KEYS, "status"]
    assert_readable(sites_lost(pd.DataFrame(rows, columns=keys)).figure)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_scale_of_the_confusion_leaves_the_titles_free(classes):
    figure = confusion_matrices(*(make_predictions(3, classes, skill=1.0),) * 2).figure
    assert_readable(figure)
    *panels, bar = figure.axes
    lowest = bar.get_window_extent().y0
    assert all(axes.title.get_window_extent().y1 < lowest for axes in panels)


def test_montage_names_long_mechanisms_whole():
    crops = Crops(("source_3", "source_5"))
    mechanism = "phosphodiesterase inhibitor and adenosine receptor antagonist "
    crops.table["Metadata_moa"] = mechanism + crops.table["Metadata_moa"]
    drawing = montage(crops, number=4)
    assert_readable(drawing.figure)
    titles = [axes.title for axes in drawing.figure.axes if axes.get_title().startswith("JCP")]
    said = {" ".join(title.get_text().split("\n")[1:]) for title in titles}
    assert said == set(crops.table["Metadata_moa"].dropna()) and not overlapping(titles)


def test_composites_of_cells_that_touch_are_not_white():
    """Where every channel is moderately bright nearly everywhere, as in confluent cells, hues remain."""
    random = np.random.default_rng(0)
    crops = np.clip(random.normal(110, 25, (4, 5, 64, 64)), 0, 255)
    crops[:, :, :4] = 0  # a gap between cells
    crops[:, 0, 20:40, 20:40] += 140  # nuclei
    pictures = composites(stretched(crops), list(LIGHT))
    assert pictures.min() >= 0 and pictures.max() <= 1
    assert (pictures.min(axis=-1) > 0.95).mean() < 0.01
    nuclei, others = pictures[:, 20:40, 20:40], pictures[:, 44:, 44:]
    assert (nuclei[..., 2].mean() / nuclei[..., 0].mean()) > 1.5 * (
        others[..., 2].mean() / others[..., 0].mean()
    )
