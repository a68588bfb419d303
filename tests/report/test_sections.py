"""The report's sections, tables and notes say what the scores and plates say, with many methods too."""

import re

import numpy as np
import pandas as pd
import pytest
from coda.crops import image_copies, nucleus_sizes
from coda.evaluation.scores import score_predictions
from coda.report.caveats import caveats, shared_batches
from coda.report.findings import findings
from coda.report.input_notes import doubts, input_notes
from coda.report.page import Section, write_report
from coda.report.sections import opening, report_sections
from coda.report.tables import (
    accuracy_table,
    controls_frame,
    methods_frame,
    p_text,
    pairs_frame,
    undefined_frame,
)
from pages import PIXEL, Page
from plates import inspected
from predictions import SKILL, write_world
from score_tables import coverage, pick, representation

SETTINGS = {
    "figures": {"level": "image"},
    "train_sources": ["source_5"],
    "target_sources": ["source_3", "source_5"],
}


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    skill = SKILL | {"unadapted": 0.3, "intensity": 1.6, "coda": 2.5}
    files, plates = write_world(tmp_path_factory.mktemp("world"), seeds=(0, 1), skill=skill)
    return score_predictions(files, plates, replicates=200).summary


def chosen(sources=("source_3", "source_5")):
    """Three plates a source; the held-out plate of the first shares its batch with a training plate."""
    rows = []
    for source in sources:
        shared = "b2" if source == "source_3" else "b3"
        for batch, subset in (("b1", "train"), ("b2", "train"), (shared, "validation")):
            rows.append((source, batch, f"{source}{subset}{batch}", subset))
    columns = ["Metadata_Source", "Metadata_Batch", "Metadata_Plate", "subset"]
    return pd.DataFrame(rows, columns=columns)


def test_notes_tell_a_batch_that_a_held_out_plate_shares(summary):
    plates = chosen()
    assert shared_batches(plates)["Metadata_Plate"].tolist() == ["source_3validationb2"]
    text = " ".join(caveats(summary, plates, inspected(plates)))
    assert "Of the 2 held-out plates, 1 shared their batch" in text
    assert "source_3validationb2 of source 3." in text and "source 5" not in text
    clean = chosen(["source_5"])
    assert "shared their batch" not in " ".join(caveats(summary, clean, inspected(clean)))


def test_batches_of_one_name_at_two_sources_are_not_shared():
    plates = chosen(["source_5"])
    other = plates.assign(Metadata_Source="source_9", Metadata_Batch="b3", subset="train")
    assert shared_batches(pd.concat([plates, other])).empty


def test_notes_tell_lost_sites_and_seeds(summary):
    plates = chosen()
    text = " ".join(caveats(summary, plates, inspected(plates)))
    assert "Of 18 planned sites 1 (5.6 %) were lost" in text
    assert "2 seeds of training" in text
    one = " ".join(caveats(summary.assign(seeds=1), plates, inspected(plates)))
    assert "neither that between training runs" in one


def test_notes_tell_what_tests_speak_of_and_that_the_oracle_leans_high(summary):
    plates = chosen()
    text = " ".join(caveats(summary, plates, inspected(plates)))
    assert "Means over pairs hold for these sources" in text
    assert "Tests (p) resample compounds" in text and "trained on the target" not in text
    oracle = summary[summary["method"] == "coda"].assign(method="oracle")
    text = " ".join(caveats(pd.concat([summary, oracle]), plates, inspected(plates)))
    assert (
        "trained on the target is scored on the held-out plate, on which its epochs were chosen"
        in text
    )


def test_findings_tell_tests_features_and_calibration(summary):
    text = " ".join(findings(summary, representation()))
    tests = summary[
        summary["p_holm"].notna()
        & (summary["train_source"] != "all")
        & (summary["split"] == "held_out")
        & (summary["level"] == "image")
    ]
    kept = text.split("On held-out plates, CODA")[1]
    assert f"correction for all {len(tests)} tests" in kept
    mine = tests.query("method == 'coda' and baseline == 'unadapted'")
    assert f"is significant in {(mine['p_holm'] < 0.05).sum()}" in kept
    assert "transductive" in text
    alone = " ".join(findings(summary.assign(seeds=1), representation()))
    assert "p does not include the spread between runs" in alone and "between runs" not in text
    assert "75 % were of the same source before adaptation and 50 % after it (25 % if" in text
    error = pick(summary, method="coda", metric="calibration_error", split="held_out",
                 level="image", train_source="all")["value"].item()  # fmt: skip
    assert f"and by {100 * error:.0f} after it" in text
    assert "Highest of the 3 methods" in text and "biased upwards" in text
    assert not re.search(r"\bnan\b|None", text)


def filters(control_wells=(8, 16), control_weight=(1.0, 1.0)):
    """What the report reads of the filters of two plates of one pair."""
    table = pd.DataFrame({"Metadata_Plate": ["P1", "P2"], "strength": [0.8, 0.9]})
    table = table.assign(control_wells=control_wells, control_weight=control_weight)
    table = table.assign(training_source="source_1", Metadata_Source="source_2")
    return pd.concat([table] * 3)  # frequencies and channels


def test_notes_tell_what_harmonisation_rests_on(summary):
    plates = chosen()
    assert "armonised" not in " ".join(caveats(summary, plates, inspected(plates)))
    text = " ".join(caveats(summary, plates, inspected(plates), filters()))
    assert "same cells in both labs" in text and "noise" in text
    assert "rest on 8 to 16 control wells a plate" in text and "all wells" not in text
    text = " ".join(caveats(summary, plates, inspected(plates), filters((0, 8), (0.0, 1.0))))
    assert "rest on 8 control wells a plate" in text
    assert "Harmonised by all wells, not by controls: P1." in text


def test_findings_tell_what_harmonised_images_do_by_themselves_and_at_home(summary):
    def copied(method, split):
        rows = summary[(summary["method"] == method) & (summary["split"] == split)]
        return rows.assign(method="harmonised_unadapted")

    parts = copied("coda", "adapted"), copied("coda", "held_out"), copied("in_domain", "validation")
    text = " ".join(findings(pd.concat([summary, *parts], ignore_index=True)))
    at = {"train_source": "all", "level": "image", "metric": "accuracy", "baseline": None}
    row = pick(summary, method="coda", split="held_out", **at).iloc[0]["value"]
    home = pick(summary, method="in_domain", split="validation", **at).iloc[0]["value"]
    said = text.split("Harmonised images alone")[1]
    assert f"gave {100 * row:.1f} %" in said and "on held-out plates" in said
    assert "on these compounds harmonisation helped. That is" in said
    assert f"they gave {100 * home:.1f} %, against {100 * home:.1f} % as it is" in said
    assert "Harmonised images" not in " ".join(findings(summary))


def test_the_section_on_harmonisation_shows_each_pair_and_the_front_page_the_first(
    summary, tmp_path
):
    names = ["harmonised_crops/source_1_to_source_2", "harmonisation/source_1_to_source_2"]
    figures = [str(tmp_path / f"{name}.png") for name in names]
    plates = chosen()
    given = summary, representation(), inspected(plates), plates, str(tmp_path), figures
    settings = SETTINGS
    titles = [section.title for section in report_sections(*given, settings)]
    assert "Harmonisation" not in titles
    sections = report_sections(*given, settings, filters=filters())
    (section,) = [each for each in sections if each.title == "Harmonisation"]
    assert [path for path, _ in section.folded["Source 1 to source 2"]] == figures
    ((table, _),) = section.tables
    assert table.to_dict("records") == [
        {"trained on": "source 1", "target": "source 2", "plates": 2, "control wells a plate": 12.0,
         "difference undone": "85 %"}
    ]  # fmt: skip
    ((path, words),) = opening(str(tmp_path), figures[::-1])
    assert path == figures[0] and words.startswith("Source 1 to source 2. What the cells")
    assert opening(str(tmp_path), figures[1:]) == []


def test_the_section_on_prediction_sets_has_the_figure_and_the_table(summary, tmp_path):
    figure = str(tmp_path / "coverage/source_1.png")
    plates = chosen()
    given = summary, representation(), inspected(plates), plates, str(tmp_path), [figure]
    settings = SETTINGS
    sections = report_sections(*given, settings, coverage=coverage())
    (section,) = [each for each in sections if each.title == "Prediction sets"]
    assert [path for path, _ in section.figures] == [figure] and len(section.tables) == 1
    assert "90 %" in section.text


def test_a_method_undefined_for_a_pair_has_no_mean_over_the_others(summary, tmp_path):
    first = representation()
    first["value"] = first["value"].fillna(0.75)
    first["reason"] = None
    second = first.assign(target_source="source_3", value=first["value"] / 2)
    lost = (second["method"] == "coda") & (second["metric"] == "purity_moa")
    second.loc[lost, ["value", "chance", "reason"]] = np.nan, np.nan, "no plates"
    both = pd.concat([first, second], ignore_index=True)
    plates = chosen()
    sections = report_sections(
        summary, both, inspected(plates), plates, str(tmp_path), [], SETTINGS
    )
    results = next(section for section in sections if section.title == "Results")
    table, caption = next(part for part in results.tables if "purity moa" in part[0])
    values = table.set_index("method")["purity moa"]
    assert values["CODA"] == "" and values["Unadapted"] == "0.562"
    assert (table.set_index("method").loc["CODA"].drop("purity moa") == "0.375").all()
    assert "Empty purity moa of CODA: no plates." in caption
    assert "of the same mechanism" in " ".join(findings(summary, first))
    assert "of the same mechanism" not in " ".join(findings(summary, both))


def test_tables_hold_the_summary(summary):
    frame = methods_frame(summary, "adapted").set_index("method")
    at = {"train_source": "all", "split": "adapted", "level": "image", "method": "coda"}
    row = pick(summary, **at, metric="accuracy", baseline=None).iloc[0]
    assert frame.loc["CODA", "accuracy, %"].startswith(
        f"{100 * row['value']:.1f} [{100 * row['low']:.1f}"
    )
    test = pick(summary, **at, metric="difference", baseline="unadapted").iloc[0]
    assert frame.loc["CODA", "p (Holm)"] == p_text(test["p_holm"])
    assert frame.loc["CODA", "significant pairs"] == "2 up, 0 down of 2"
    each = [
        pick(summary, **at | {"train_source": source}, metric="difference", baseline="unadapted")
        for source in ("source_1", "source_2")
    ]
    each = pd.concat(each)["value"]
    assert frame.loc["CODA", "SD over pairs"] == f"{100 * np.ptp(each) / np.sqrt(2):.1f}"
    assert (
        frame.loc["Unadapted", "difference, points"]
        == frame.loc["Unadapted", "SD over pairs"]
        == ""
    )
    assert frame.loc["CODA", "compared with"] == "Unadapted"
    lost = summary.copy()
    one = (lost["train_source"] == "source_1") & (lost["metric"] == "difference")
    lost.loc[one, "value"] = np.nan
    assert (methods_frame(lost, "adapted")["SD over pairs"] == "").all()
    pairs = pairs_frame(summary, "source_1", "adapted", "image").set_index("method")
    assert list(pairs.columns) == ["source 2"]
    assert pairs.loc["CODA", "source 2"].endswith("*")
    assert not pairs.loc["Unadapted", "source 2"].endswith("*")
    above = controls_frame(summary, ["intensity"], "image").set_index("method")
    ahead = pick(summary, **at, metric="difference", baseline="intensity").iloc[0]
    words = above.loc["CODA", "above intensities only, adapted plates"]
    low, high = ahead["low_compounds"], ahead["high_compounds"]
    assert words == f"{100 * ahead['value']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    assert "Control: intensities only" not in above.index


def against_intensities(summary, **changed):
    """Say what findings tell of the control where the differences of all methods from it are changed."""
    rows = (summary["baseline"] == "intensity") & (summary["metric"] == "difference")
    table = summary.copy()
    table.loc[rows, list(changed)] = list(changed.values())
    (said,) = (text for text in findings(table) if text.startswith("Control, intensities"))
    return said


def test_methods_stand_to_a_control_by_the_interval_over_compounds(summary):
    above, near, below = (
        against_intensities(summary, value=value, low=low, high=high, **over)
        for value, low, high, over in (
            (0.1, -0.1, 0.3, {"low_compounds": 0.01, "high_compounds": 0.2}),
            (0.1, 0.05, 0.15, {"low_compounds": -0.01, "high_compounds": 0.2}),
            (-0.1, -0.3, 0.1, {"low_compounds": -0.2, "high_compounds": -0.01}),
        )
    )
    assert "Every method is clearly above it, over compounds." in above and "Warning" not in above
    assert "It is close to Unadapted; ODA (no partners); CODA." in near and "Warning" in near
    assert "It is above Unadapted; ODA (no partners); CODA." in below and "close" not in below
    unknown = against_intensities(summary, value=0.1, low_compounds=np.nan, high_compounds=np.nan)
    assert "It is close to Unadapted; ODA (no partners); CODA." in unknown


def test_undefined_differences_from_a_control_are_named_and_no_success(summary):
    empty = {"value": np.nan, "low_compounds": np.nan, "high_compounds": np.nan}
    said = against_intensities(summary, **empty)
    assert "undefined: Unadapted; ODA (no partners); CODA." in said and "above" not in said
    table = summary.copy()
    table.loc[table["baseline"] == "intensity", ["low_compounds", "high_compounds"]] = 0.1, 0.2
    table.loc[(table["baseline"] == "intensity") & (table["method"] == "oda"), list(empty)] = np.nan
    text = " ".join(findings(table))
    assert "Every other method is clearly above it, over compounds." in text
    assert "undefined: ODA (no partners)." in text


def test_what_is_undefined_is_listed_with_its_reason(summary):
    table = summary.copy()
    rows = (table["metric"] == "macro_auc") & (table["method"] == "coda")
    table.loc[rows, ["value", "low", "high"]] = np.nan
    table.loc[rows, "reason"] = "one class only"
    found = undefined_frame(table)
    row = found[found["metric"] == "macro_auc"].iloc[0]
    assert (row["methods"], row["values"], row["reason"]) == ("CODA", rows.sum(), "one class only")
    assert not (undefined_frame(summary)["metric"] == "macro_auc").any()


def test_a_terminal_holds_many_methods(summary):
    many = [summary] + [
        summary[summary["method"] == "oda"].assign(method=f"coda_variant_{number}")
        for number in range(12)
    ]
    text = accuracy_table(pd.concat(many, ignore_index=True))
    assert max(map(len, text.splitlines())) <= 110
    assert sum(line.startswith("coda_variant_11") or "coda variant 11" in line
               for line in text.splitlines()) == 2  # fmt: skip


def test_sections_stand_in_their_order_and_every_figure_is_there(summary, tmp_path):
    stems = ["accuracy/source_3", "matrix", "slopes", "crops", "training/source_3_seed_1", "sites_lost/source_3",
             "quality/source_3/P_1_sites", "quality/source_3/P_1_measures", "gains/source_3_to_source_5_seed_1",
             "calibration/source_3_to_source_5_seed_1"]  # fmt: skip
    paths = [tmp_path / "figures" / f"{stem}.png" for stem in stems]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PIXEL)
    paths[0].with_suffix(".csv").write_text("a\n")
    plates = chosen()
    sections = report_sections(
        summary, representation(), inspected(plates), plates, str(tmp_path / "figures"),
        [str(path) for path in paths], SETTINGS,
    )  # fmt: skip
    titles = [section.title for section in sections]
    assert titles == ["Data", "Quality", "Training", "Results", "Pair by pair", "Controls", "Settings",
                      "Versions"]  # fmt: skip
    by = dict(zip(titles, sections, strict=True))
    assert list(by["Quality"].folded) == ["Source 3 P_1"]
    assert list(by["Pair by pair"].folded) == ["Source 3 to source 5, seed 1"]
    shown = [path for section in sections for path, _ in section.figures]
    shown += [path for section in sections for part in section.folded.values() for path, _ in part]
    assert sorted(shown) == sorted(map(str, paths))
    assert "figures/accuracy/source_3.csv" in by["Results"].figures[0][1]
    write_report(tmp_path / "report.html", "T", ["Found."], ["Note."], sections)
    page = Page((tmp_path / "report.html").read_text())
    assert sum(tag == "img" for tag, _ in page.seen) == len(paths)
    text = (tmp_path / "report.html").read_text()
    assert "one plate only" in text and not re.search(r">\s*nan\s*<", text)


def test_a_source_that_lost_no_site_has_no_map_but_a_sentence(summary, tmp_path):
    plates = chosen()
    quality = inspected(plates)
    quality.loc[quality["Metadata_Source"] == "source_3", "status"] = "ok"
    quality.loc[quality["Metadata_Source"] == "source_5", "status"] = "missing"
    maps = [str(tmp_path / f"sites_lost/{source}.png") for source in ("source_3", "source_5")]
    sections = report_sections(
        summary, representation(), quality, plates, str(tmp_path), maps, SETTINGS
    )
    (section,) = [each for each in sections if each.title == "Quality"]
    assert [path for path, _ in section.figures] == maps[1:]
    assert section.text == "No site of source 3 was lost."


def test_plates_say_what_they_are_used_for(summary, tmp_path):
    plates = chosen()
    given = summary, representation(), inspected(plates), plates, str(tmp_path), []
    (table, _), *_ = report_sections(*given, SETTINGS)[0].tables
    used = table.groupby(["source", "used"]).size()
    assert set(used.index) == {
        (source, word)
        for source, words in {
            "source 3": ("adapted to", "held out"),
            "source 5": ("trained on", "held out"),
        }.items()
        for word in words
    }
    both = SETTINGS | {"train_sources": ["source_3", "source_5"]}
    (table, _), *_ = report_sections(*given, both)[0].tables
    assert set(table["used"]) == {"trained on, adapted to", "held out"}


def test_few_folds_are_open(tmp_path):
    figure = tmp_path / "figure.png"
    figure.write_bytes(PIXEL)
    for count, opened in ((2, 2), (4, 0)):
        folded = {f"pair {number}": [(figure, "c")] for number in range(count)}
        write_report(tmp_path / "r.html", "T", [], [], [Section("A", folded=folded)])
        page = Page((tmp_path / "r.html").read_text())
        details = [attributes for tag, attributes in page.seen if tag == "details"]
        assert len(details) == count and sum("open" in one for one in details) == opened


def test_what_a_balanced_consensus_takes_for_granted_is_told(summary):
    plates = chosen()
    quality = inspected(plates)
    with_it = summary.replace({"method": {"coda": "harmonised_coda_consensus"}})
    for table, balanced, told in ((with_it, True, 1), (with_it, False, 0), (summary, True, 0)):
        notes = caveats(table, plates, quality, balanced=balanced)
        assert sum("take each mechanism to have the share" in note for note in notes) == told


def test_oddities_of_the_inputs_stand_among_the_caveats(summary):
    plates = chosen()
    rows = [("two plates", "x")] * 3 + [("two channels", "y")]
    rows += [("tables", f"odd {number}") for number in range(5)]
    warnings = pd.DataFrame(rows, columns=["kind", "message"])
    text = " ".join(caveats(summary, plates, inspected(plates), warnings=warnings))
    assert "4 images have the same pixels as another (1 in two channels, 3 in two plates;" in text
    assert "Told of the inputs: odd 0; odd 1; odd 2. 2 more are in warnings.csv." in text
    text = " ".join(caveats(summary, plates, inspected(plates), warnings=warnings[:0]))
    assert "warnings.csv" not in text


def test_what_puts_results_in_doubt_stands_above_them(tmp_path):
    kinds = [image_copies.PLATES, image_copies.PLATES, nucleus_sizes.KIND, "tables"]
    messages = ["a copy", "a copy", "nuclei of my_lab cover 2,550 pixels", "odd"]
    warnings = pd.DataFrame({"kind": kinds, "message": messages})
    said = doubts(warnings)
    assert said[0].startswith("2 images have the same pixels as another (2 in two plates;")
    assert said[1:] == ["Nuclei of my_lab cover 2,550 pixels."]
    assert input_notes(warnings) == [*said, "Told of the inputs: odd."]
    assert doubts(warnings[3:]) == [] and input_notes(warnings[:0]) == []
    write_report(tmp_path / "report.html", "title", ["found"], [], [], doubts=said)
    page = (tmp_path / "report.html").read_text()
    assert page.index("Nuclei of my_lab") < page.index("What was found")
    write_report(tmp_path / "report.html", "title", ["found"], [], [])
    assert "Check the inputs" not in (tmp_path / "report.html").read_text()
