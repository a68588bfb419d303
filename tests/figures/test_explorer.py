"""The explorer: every crop with its own picture, calls, places and neighbours, on one page that stands alone."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from coda.columns import SITE_KEYS
from coda.crops.store import CropStore, CropWriter
from coda.figures import explorer
from coda.figures.explorer import (
    About,
    crops_table,
    looks,
    project,
    sheets,
    thumbnails,
    widths_of,
    write_explorer,
)
from PIL import Image
from predictions import make_predictions, with_embeddings

CLASSES = [f"moa {number}" for number in range(4)]


@pytest.fixture(scope="module")
def predictions():
    """Home, and one target before and after adaptation."""
    made = []
    for seed, source, skill in ((0, "source_1", 3.0), (1, "source_2", 1.0), (2, "source_2", 3.0)):
        table = with_embeddings(make_predictions(seed, plates=("P1",), skill=skill), seed=seed)
        made.append(table.assign(Metadata_Source=source, Quality_ok=True))
    return made


def test_the_training_source_stays_and_the_target_has_its_calls_before_and_after(predictions):
    home, before, after = predictions
    # Files need not have their rows in one order.
    table = crops_table(home, [before], [after.sample(frac=1, random_state=0)])
    assert len(table) == len(home) + len(before)
    stays = table["Metadata_Source"] == "source_1"
    for name in ("x", "y", "call", "confidence"):
        assert (table.loc[stays, f"{name}_before"] == table.loc[stays, f"{name}_after"]).all()
    for moment, each in (("before", before), ("after", after)):
        logits = each.filter(like="Logit_")
        own = np.exp(logits) / np.exp(logits).sum(axis=1).to_numpy()[:, None]
        wanted = each[SITE_KEYS].assign(call=own.idxmax(axis=1).str[6:], confidence=own.max(axis=1))
        found = table[~stays].merge(wanted, on=SITE_KEYS)
        assert (found[f"call_{moment}"] == found["call"]).all()
        assert found[f"confidence_{moment}"].to_numpy() == pytest.approx(
            found["confidence"], rel=1e-5
        )


def test_neighbours_are_the_nearest_by_cosine_and_never_oneself(predictions):
    home, before, after = predictions
    table = crops_table(home, [before], [after])
    vectors = np.concatenate([np.stack(each["Embedding"]).astype(float) for each in (home, after)])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = unit @ unit.T - 2 * np.eye(len(unit))
    for row, found in enumerate(table["neighbours"]):
        assert row not in found
        best = np.sort(likeness[row])[::-1][: len(found)]
        assert likeness[row][found] == pytest.approx(best, abs=1e-5)


def test_points_that_no_landmark_is_lie_by_their_like(monkeypatch):
    monkeypatch.setattr(explorer, "LANDMARKS", 60)
    random = np.random.default_rng(0)
    group = np.arange(300) % 3
    places = project(np.eye(8)[group] * 20 + random.normal(size=(300, 8)), seed=0)
    centres = np.stack([places[group == each].mean(axis=0) for each in range(3)])
    distance = np.linalg.norm(places[:, None] - centres[None], axis=2)
    assert (distance.argmin(axis=1) == group).all()


def test_every_crop_has_its_own_thumbnail(predictions, tmp_path):
    home, before, after = predictions
    table = (
        crops_table(home, [before], [after]).sample(frac=1, random_state=3).reset_index(drop=True)
    )
    # The grey value of the left half tells the row; the right half is dark.
    paths = []
    for source, part in table.groupby("Metadata_Source"):
        paths.append(tmp_path / f"{source}.arrow")
        with CropWriter(paths[-1], ["DNA"], 128, 128, {}) as writer:
            for row, site in part.sample(frac=1, random_state=1).iterrows():
                pixels = np.zeros((1, 1, 128, 128), np.uint8)
                pixels[..., :64] = 20 + row
                writer.write({key: site[key] for key in SITE_KEYS}, pixels)
    pictures, side = thumbnails(table, [CropStore([path]) for path in paths])
    assert pictures.shape == (len(table), side, side, 3) and side == 64
    assert pictures[:, :, side // 2 :].max() == 0
    for _, part in table.groupby("Metadata_Source"):
        light = pictures[part.index, side // 2, 2, 0].astype(int)
        assert (np.diff(light) >= 0).all() and light[-1] > light[0]


@pytest.mark.parametrize(("few", "many", "side"), [(4, 5, 32), (4, 500, 40), (500, 501, 64)])
def test_the_more_crops_the_smaller_are_their_pictures(monkeypatch, tmp_path, few, many, side):
    monkeypatch.setattr(explorer, "FEW", few)
    monkeypatch.setattr(explorer, "MANY", many)
    sites = [dict(zip(SITE_KEYS, ["s", "p", "A01", site], strict=True)) for site in range(6)]
    table = pd.DataFrame(sites)
    with CropWriter(tmp_path / "p.arrow", ["DNA"], 64 * 5, 64 * 5, {}) as writer:
        for site in table.to_dict("records"):
            writer.write(site, np.full((1, 1, 320, 320), 9, np.uint8))
    assert thumbnails(table, [CropStore([tmp_path / "p.arrow"])])[1] == side


def test_sheets_hold_all_pictures_in_order(monkeypatch):
    monkeypatch.setattr(explorer, "SHEET", 128)
    colours = np.random.default_rng(0).integers(0, 255, (21, 3)).astype(np.uint8)
    pictures = np.broadcast_to(colours[:, None, None], (21, 32, 32, 3))
    made = sheets(pictures)
    assert len(made) == 2
    opened = [Image.open(io.BytesIO(base64.b64decode(sheet.split(",")[1]))) for sheet in made]
    for number, colour in enumerate(colours):
        sheet, place = divmod(number, 16)
        at = (place % 4 * 32 + 16, place // 4 * 32 + 16)
        seen = np.array(opened[sheet].convert("RGB").getpixel(at), int)
        assert np.abs(seen - colour).max() < 24


def test_the_page_stands_alone_and_no_name_breaks_out(predictions, tmp_path):
    home, before, after = (
        each.replace({"Metadata_moa": {"moa 1": "</script><script>alert(1)</script>"}})
        for each in predictions
    )
    table = crops_table(home, [before], [after])
    pictures = np.zeros((len(table), 32, 32, 3), np.uint8)
    write_explorer(
        tmp_path / "explorer.html", table, pictures, About("A & B", "source_5", len(table), CLASSES)
    )
    page = (tmp_path / "explorer.html").read_text()
    assert "<title>A &amp; B</title>" in page
    assert "<script>alert" not in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.?http", page)
    assert [path.name for path in tmp_path.iterdir()] == ["explorer.html"]


def test_the_page_says_which_lab_trained_how_wide_crops_are_and_that_images_are_simulated(
    predictions, tmp_path
):
    home, before, after = predictions
    table = crops_table(home, [before], [after])
    pictures, path = np.zeros((len(table), 32, 32, 3), np.uint8), tmp_path / "explorer.html"
    for simulated in (True, False):
        write_explorer(
            path,
            table,
            pictures,
            About("A", "source_1", len(table), CLASSES, {"source_1": 166}, simulated),
        )
        page = path.read_text()
        assert "training lab, source 1, stay" in page
        assert '"widths": {"source 1": 166}' in page
        assert ("Simulated images." in page) == simulated


def test_widths_are_those_of_the_pixels_of_each_lab_that_are_known(tmp_path):
    site = dict(zip(SITE_KEYS, ["s", "p", "A01", 1], strict=True))
    stores = []
    for source, settings in (
        ("a", {"um_per_pixel": 1.3}),
        ("b", {"um_per_pixel": 0.65}),
        ("c", {}),
    ):
        with CropWriter(tmp_path / f"{source}.arrow", ["DNA"], 128, 128, settings) as writer:
            writer.write(site | {"Metadata_Source": source}, np.zeros((1, 1, 128, 128), np.uint8))
        stores.append(CropStore([tmp_path / f"{source}.arrow"]))
    table = pd.concat([store.table for store in stores], ignore_index=True)
    assert widths_of(stores, table) == {"a": 166, "b": 83}


def test_forty_thousand_crops_stay_under_sixty_megabytes(predictions, tmp_path):
    home, before, after = predictions
    few = crops_table(home, [before], [after])
    random, sizes = np.random.default_rng(0), []
    for times in (10, 30):
        table = pd.concat([few] * times, ignore_index=True)
        table["Metadata_Site"] = np.arange(len(table))
        for name in ("x_before", "y_before", "x_after", "y_after", "confidence_after"):
            table[name] = random.normal(size=len(table))
        # As grainy as pictures get: noise that is no smoother than a pixel, in every colour.
        pictures = random.integers(0, 256, (len(table), 32, 32, 3)).astype(np.uint8)
        write_explorer(
            tmp_path / "explorer.html",
            table,
            pictures,
            About("Many", "source_5", len(table), CLASSES),
        )
        sizes.append((len(table), (tmp_path / "explorer.html").stat().st_size))
    (rows, size), (more, larger) = sizes
    assert (larger - size) / (more - rows) * explorer.MOST + size < 60e6


def explained(sites, method, chance):
    """Where a network of four patches looks on some sites, and what two channels do to its calls."""
    table = sites[SITE_KEYS].copy()
    table["Attention"] = [np.array([0.1, 0.2, 0.3, 0.4]) * chance for _ in range(len(table))]
    return table.assign(Change_DNA=-0.25, Change_ER=0.031, Method=method)


def test_each_explained_crop_has_its_own_maps_and_changes(predictions, tmp_path):
    home, before, after = predictions
    table = (
        crops_table(home, [before], [after]).sample(frac=1, random_state=3).reset_index(drop=True)
    )
    at_home, away = home.iloc[:3], before.iloc[2:4]
    tables = [explained(at_home, "unadapted", 1.0), explained(away, "unadapted", 0.5)]
    tables.append(explained(away, "coda", 1.0))
    # The training source is explained beside each of two targets.
    found = looks(table, pd.concat([*tables, tables[0]]), (0.5, 0.5))
    assert found["channels"] == ["DNA", "ER"] and len(found["crops"]) == 5
    for place, entries in found["crops"].items():
        home_crop = table.loc[place, "Metadata_Source"] == "source_1"
        chosen = at_home if home_crop else away
        keys = pd.MultiIndex.from_frame(chosen[SITE_KEYS])
        assert tuple(table.loc[place, SITE_KEYS]) in keys
        assert [each["moment"] for each in entries] == ["before"] + ["after"] * (not home_crop)
        assert all(each["map"] == [64, 128, 191, 255] for each in entries)
        assert all(each["change"] == [-25.0, 3.1] for each in entries)
    path, pictures = tmp_path / "explorer.html", np.zeros((len(table), 32, 32, 3), np.uint8)
    for given in (found, None):
        write_explorer(path, table, pictures, About("A", "source_5", len(table), CLASSES), given)
        assert ('"only_attention"' in path.read_text()) == (given is not None)
