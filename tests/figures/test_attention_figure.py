"""The figure of attention: the numbers drawn, each crop with its own map, and text that can be read."""

import numpy as np
import pandas as pd
import pytest
from coda.columns import SITE_KEYS
from coda.crops.store import CropStore, CropWriter
from coda.figures.attention import attention_figure
from drawings import assert_readable, overlapping

CHANNELS = ["DNA", "ER", "RNA", "AGP", "Mito"]
MOAS = ["a receptor antagonist of a very long name", "kinase inhibitor", "tubulin inhibitor"]


def write_store(path, source, moas, channels):
    with CropWriter(path, channels, 48, 48, {}) as writer:
        for site, moa in enumerate(moas):
            keys = dict(zip(SITE_KEYS, [source, f"plate of {source}", "A01", site], strict=True))
            shape = (1, len(channels), 48, 48)
            crops = np.random.default_rng(site).integers(0, 255, shape).astype(np.uint8)
            writer.write(keys | {"Metadata_moa": moa}, crops)
    return CropStore([path])


def explain(folder, channels):
    """Two crops of each mechanism, the last of which the training source has none of."""
    home = write_store(folder / "home.arrow", "source_1", MOAS[:2] * 2, channels)
    target = write_store(folder / "target.arrow", "source_2", MOAS * 2, channels)
    random, parts = np.random.default_rng(0), []
    for store, method in ((home, "unadapted"), (target, "unadapted"), (target, "coda")):
        part = store.table[[*SITE_KEYS, "Metadata_moa"]].assign(Method=method, Call=MOAS[0])
        part["Attention"] = [each / each.sum() for each in random.random((len(part), 16))]
        for channel in channels:
            part[f"Change_{channel}"] = random.uniform(-1, 1, len(part))
        parts.append(part.assign(Probability=0.7))
    return pd.concat(parts, ignore_index=True), home, target


@pytest.fixture
def explained(tmp_path):
    return explain(tmp_path, CHANNELS)


def panel(figure, row, column):
    return figure.axes[8 * row + column]


def test_every_map_and_mean_is_in_its_place(explained):
    table, home, target = explained
    drawing = attention_figure(table, home, target, size=32)
    figure = drawing.figure
    assert_readable(figure)
    for row, moa in enumerate(MOAS):
        mine = table[table["Metadata_moa"] == moa]
        for column, method in ((3, "unadapted"), (4, "coda")):
            rows = mine[(mine["Method"] == method) & (mine["Metadata_Source"] == "source_2")]
            drawn = panel(figure, row, column).images[0].get_array()
            wanted = 16 * rows["Attention"].iloc[0].reshape(4, 4)
            np.testing.assert_allclose(drawn, wanted)
            changes = panel(figure, row, 6 if method == "unadapted" else 7)
            means = 100 * rows.filter(like="Change_").mean()
            np.testing.assert_allclose(changes.images[0].get_array()[0], means)
            words = [text.get_text().replace("−", "-") for text in changes.texts]
            assert [float(word) for word in words] == [round(value) for value in means]
            assert not overlapping(changes.texts)
    # The training source has no crop of the last mechanism.
    assert all(panel(figure, 1, column).images for column in range(5))
    assert [bool(panel(figure, 2, column).images) for column in range(5)] == [False] * 2 + [
        True
    ] * 3
    assert not overlapping(panel(figure, row, 0).yaxis.label for row in range(3))


def test_the_picture_is_the_middle_of_the_crop_that_the_map_is_of(explained):
    table, home, target = explained
    drawing = attention_figure(table, home, target, size=32)
    shown = drawing.table[drawing.table["shown"]]
    assert len(shown) == 2 + 3 + 3
    assert panel(drawing.figure, 0, 2).images[0].get_array().shape == (32, 32, 3)
    # Blacking out all but the middle of every crop changes no picture.
    before = [panel(drawing.figure, row, 2).images[0].get_array() for row in range(3)]
    black = target.gather(np.arange(len(target)))
    black[:, :, :8], black[:, :, -8:], black[..., :8], black[..., -8:] = 0, 0, 0, 0
    target.gather = lambda rows: black[rows]
    after = attention_figure(table, home, target, size=32).figure
    for row in range(3):
        np.testing.assert_allclose(panel(after, row, 2).images[0].get_array(), before[row])


def test_without_attention_there_are_the_changes(explained):
    table, home, target = explained
    table["Attention"] = [np.full(16, np.nan)] * len(table)
    assert_readable(attention_figure(table, home, target, size=32).figure)


@pytest.mark.parametrize("number", [1, 2, 8])
def test_few_and_many_channels_stay_legible(tmp_path, number):
    channels = [*CHANNELS, "Brightfield", "BF low", "BF high"][:number]
    figure = attention_figure(*explain(tmp_path, channels), size=32).figure
    assert_readable(figure)
    titles = [panel(figure, 0, column).title for column in range(8)]
    assert not overlapping(titles)
    words = [text for column in (5, 6, 7) for text in panel(figure, 1, column).texts]
    # Their numbers would overlap where there are many.
    assert bool(words) == (number <= 5) and not overlapping(words)


def test_titles_of_long_names_stand_clear_of_each_other(explained):
    table, home, target = explained
    table["Method"] = table["Method"].replace("coda", "harmonised_coda_consensus")
    figure = attention_figure(table, home, target, size=32).figure
    assert_readable(figure)
    assert not overlapping(panel(figure, 0, column).title for column in range(8))
