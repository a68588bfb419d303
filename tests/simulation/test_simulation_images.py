"""Drawn cells and simulated microscopes: do they show what they should, and nothing else?"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
from coda.simulation import plates as simulated
from coda.simulation.cells import CHANNELS, Cells, draw, place_nuclei
from coda.simulation.formats import SOURCES
from coda.simulation.names import plate_names
from coda.simulation.optics import (
    CAUSES,
    MICROSCOPES,
    Lab,
    blur,
    expose,
    illumination,
    imaging,
    margin_pixels,
)
from coda.simulation.world import TRAITS, generator
from places import JUMP_FIELD, REFERENCE
from scipy import ndimage

SETTINGS = {"image_size": 96, "binning": 2.0}
# The channel in which each trait shows most.
SHOWS_IN = {
    "cell_elongation": "AGP",
    "nucleus_area": "DNA",
    "nucleus_elongation": "DNA",
    "nucleus_lobes": "DNA",
    "chromatin_contrast": "DNA",
    "chromatin_coarseness": "DNA",
    "nucleolus_count": "RNA",
    "nucleolus_size": "RNA",
    "rna_cytoplasm": "RNA",
    "er_spread": "ER",
    "er_contrast": "ER",
    "actin_fibres": "AGP",
    "actin_spacing": "AGP",
    "cell_border": "AGP",
    "golgi_size": "AGP",
    "mito_spread": "Mito",
    "mito_fragments": "Mito",
}


def drawn(trait: str | None = None, units: float = 0.0, pixel_um: float = 1.0) -> np.ndarray:
    """A field of 150 um whose cells all have one trait moved; the rest of it never changes."""
    random = generator(5, "test field")
    spots = place_nuclei(150, 150, 640, random)
    traits = np.zeros((len(spots), len(TRAITS)), dtype=np.float32)
    if trait:
        traits[:, TRAITS.index(trait)] = units
    angle = random.uniform(0, 2 * np.pi, len(spots)).astype(np.float32)
    side = round(150 / pixel_um)
    return draw(Cells(spots[:, 1], spots[:, 0], angle, traits), (side, side), pixel_um, random)


def channel(light: np.ndarray, name: str) -> np.ndarray:
    return light[CHANNELS.index(name)]


@pytest.mark.parametrize("trait", TRAITS)
def test_a_trait_changes_the_light_in_its_channel(trait):
    low, middle, high = drawn(trait, -2.5), drawn(), drawn(trait, 2.5)
    for other in (low, high):
        change = np.abs(other - middle).mean(axis=(1, 2)) / middle.mean(axis=(1, 2))
        assert change[CHANNELS.index(SHOWS_IN[trait])] > 0.01
        assert CHANNELS[np.argmax(change)] == SHOWS_IN[trait]


def test_traits_move_what_they_are_named_for():
    area = [(channel(drawn("nucleus_area", units), "DNA") > 0.4).sum() for units in (-2, 0, 2)]
    assert area[0] < 0.85 * area[1] < 0.75 * area[2]
    near = ndimage.distance_transform_edt(channel(drawn(), "DNA") < 0.3)
    share = [
        mito[near > 8].sum() / mito.sum()
        for mito in (channel(drawn("mito_spread", units), "Mito") for units in (-2, 0, 2))
    ]
    assert share[0] < share[1] < share[2]
    spots = [np.percentile(channel(drawn("nucleolus_size", u), "RNA"), 99) for u in (-2, 2)]
    assert spots[0] < spots[1]


def test_a_field_looks_the_same_however_it_is_sampled():
    """Mean light and area of nuclei are those of the field, not of the pixels."""
    coarse, fine = drawn(pixel_um=1.5), drawn(pixel_um=0.5)
    assert coarse.mean(axis=(1, 2)) == pytest.approx(fine.mean(axis=(1, 2)), rel=0.12)
    areas = [(channel(light, "DNA") > 0.4).mean() for light in (coarse, fine)]
    assert areas[0] == pytest.approx(areas[1], rel=0.1)


def test_an_empty_field_is_dark():
    cells = Cells(*(np.empty(0, dtype=np.float32) for _ in range(3)), np.empty((0, len(TRAITS))))
    assert not draw(cells, (32, 40), 1.0, generator(1, "empty")).any()


def test_nuclei_keep_their_distance_and_density():
    spots = place_nuclei(1000, 800, 500, generator(2, "nuclei"))
    gaps = np.sqrt(((spots[:, None] - spots[None]) ** 2).sum(axis=-1))
    assert gaps[np.triu_indices(len(spots), 1)].min() > 17
    inside = ((spots >= 0) & (spots < (1000, 800))).all(axis=1).sum()
    assert inside == pytest.approx(500 * 0.8, rel=0.15)


def test_true_centres_are_the_nuclei_of_the_image():
    plate = plate_names("source_5", 1, 1)
    images, centres = simulated.simulate_site(plate, "A01", 0, np.zeros(17), SETTINGS, seed=1)
    dna = ndimage.gaussian_filter(images[0].astype(float), 1)
    inner = [(x, y) for x, y in centres if 6 < x < 89 and 6 < y < 89]
    at_centres = [dna[round(y), round(x)] for x, y in inner]
    assert min(at_centres) > np.percentile(dna, 75)


def test_only_the_traits_carry_the_compound():
    """Two compounds in the same well: same places, same camera, same stain; other cells."""
    plate = plate_names("source_8", 1, 1)
    one, places = simulated.simulate_site(plate, "B03", 0, np.zeros(17), SETTINGS, seed=1)
    two, others = simulated.simulate_site(plate, "B03", 0, np.full(17, 2.0), SETTINGS, seed=1)
    assert np.array_equal(places, others)
    assert not np.array_equal(one, two)


def test_camera_knows_nothing_of_the_compound(monkeypatch):
    """With the drawing made blank, images of any compound are the same to the last bit."""

    def blank(cells, shape, pixel_um, random):
        return np.full((5, *shape), 0.5, dtype=np.float32)

    monkeypatch.setattr(simulated, "draw", blank)
    plate = plate_names("source_3", 1, 1)
    one, _ = simulated.simulate_site(plate, "B03", 0, np.zeros(17), SETTINGS, seed=1)
    two, _ = simulated.simulate_site(plate, "B03", 0, np.full(17, 3.0), SETTINGS, seed=1)
    other, _ = simulated.simulate_site(plate, "B03", 1, np.zeros(17), SETTINGS, seed=1)
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_blur_keeps_light_and_has_the_given_width():
    point = np.zeros((1, 64, 64), dtype=np.float32)
    point[0, 32, 32] = 1
    seen = blur(point, 1.5, 0.0, 8.0)[0].astype(float)
    rows = np.arange(64) - 32
    assert seen.sum() == pytest.approx(1, abs=1e-5)
    assert np.sqrt((seen.sum(axis=1) * rows**2).sum()) == pytest.approx(1.5, rel=0.01)
    expected = ndimage.gaussian_filter(point[0].astype(float), 1.5, mode="wrap", truncate=8)
    assert np.abs(seen - expected).max() < 1e-3
    hazy = blur(point, 1.5, 0.4, 8.0)[0]
    assert hazy.max() < 0.65 * seen.max()


def flat_setup(source: str, **changes):
    """A microscope with plain gain and no illumination pattern."""
    setup = imaging(source, "batch", "plate", 1)
    ones = np.ones(5)
    setup = replace(
        setup, gain=1000 * ones, offset=200 * ones, microscope=replace(setup.microscope, **changes)
    )
    return setup, np.ones((5, 64, 64), dtype=np.float32)


def test_noise_is_shot_noise_of_the_stated_photons():
    pixel_um = 1.3
    setup, field = flat_setup("source_5", gamma=1.0, photons=100.0)
    side = 64 + 2 * margin_pixels(pixel_um)
    light = np.ones((5, side, side), dtype=np.float32)
    images = expose(light, setup, field, pixel_um, generator(1, "noise")).astype(float)
    signal = (images.mean(axis=(1, 2)) - 200) / 1000
    variance = images.var(axis=(1, 2)) - 12.0**2
    photons = signal / (variance / 1000**2)
    assert photons == pytest.approx(np.full(5, 100), rel=0.1)


def test_crosstalk_goes_only_where_the_filters_leak():
    pixel_um = 1.3
    side = 64 + 2 * margin_pixels(pixel_um)
    light = np.zeros((5, side, side), dtype=np.float32)
    light[CHANNELS.index("AGP"), :, : side // 2] = 1
    for source, leaky in (("source_5", set()), ("source_8", {"RNA", "Mito"})):
        setup, field = flat_setup(source)
        images = expose(light, setup, field, pixel_um, generator(1, source)).astype(float)
        contrast = images[:, :, :24].mean(axis=(1, 2)) - images[:, :, 40:].mean(axis=(1, 2))
        found = {name for name, value in zip(CHANNELS, contrast, strict=True) if value > 50}
        assert found == {"AGP"} | leaky


def test_light_beyond_the_range_saturates():
    setup, field = flat_setup("source_5")
    side = 64 + 2 * margin_pixels(1.3)
    light = np.full((5, side, side), 1e4, dtype=np.float32)
    assert expose(light, setup, field, 1.3, generator(1, "bright")).min() == 65535


def test_batches_change_imaging_a_little_and_plates_less():
    def difference(first, second):
        a, b = (np.log(imaging("source_3", *names, 1).gain) for names in (first, second))
        return np.abs(a - b).mean()

    within = [difference(("a", f"{i}"), ("a", f"{i + 1}")) for i in range(20)]
    between = [difference((f"{i}", "a"), (f"{i + 1}", "a")) for i in range(20)]
    assert 0 < np.mean(within) < np.mean(between) < 0.15
    sources = difference(("a", "a"), ("a", "a"))
    assert sources == 0


@pytest.mark.parametrize("cause", CAUSES)
def test_a_lab_like_another_differs_from_it_in_what_was_asked_only(cause):
    like = Lab("source_5")
    other = replace(like, differs=((cause, "source_8"),))
    assert like.microscope == MICROSCOPES["source_5"] and like.camera == "source_5"
    changed = {
        name
        for name, value in vars(other.microscope).items()
        if value != getattr(like.microscope, name)
    }
    assert changed and changed <= set(CAUSES[cause])
    assert all(
        getattr(other.microscope, name) == getattr(MICROSCOPES["source_8"], name)
        for name in changed
    )
    first, second = (imaging("source_2", "batch", "plate", 1, lab) for lab in (like, other))
    cameras = (
        np.array_equal(first.gain, second.gain),
        np.array_equal(first.vignette, second.vignette),
    )
    assert cameras == ((False, False) if cause == "intensity" else (True, True))


def test_larger_cells_take_more_of_the_field_at_the_same_number():
    plate = plate_names("source_5", 1, 1)
    larger = replace(plate, lab=Lab("source_5", cell_size=1.25))
    settings = {"image_size": 384, "binning": 2.0}
    mean = np.zeros(len(TRAITS))
    found = []
    for each in (plate, larger):
        images, nuclei = simulated.simulate_site(each, "A01", 0, mean, settings, 1)
        blurred = ndimage.gaussian_filter(images[0].astype(float), 1)
        bright = blurred > (blurred.min() + blurred.max()) / 4
        found.append((len(nuclei), bright.mean() / len(nuclei)))
    assert found[1][0] == pytest.approx(found[0][0], rel=0.2)
    assert found[1][1] / found[0][1] == pytest.approx(1.25**2, rel=0.2)


def test_illumination_is_smooth_positive_and_of_mean_one():
    field = illumination(imaging("source_11", "a", "b", 1), (60, 80))
    assert field.shape == (5, 60, 80) and field.dtype == np.float32
    assert field.mean(axis=(1, 2)) == pytest.approx(np.ones(5), abs=1e-4)
    assert 0.5 < field.min() < field.max() < 1.6
    assert np.abs(np.diff(field, axis=1)).max() < 0.03


def test_microscopes_and_formats_agree_with_the_published_facts():
    if not REFERENCE.exists():
        pytest.skip("needs the reference tables in ../shared/data")
    facts = pd.read_csv(REFERENCE / "metadata" / "microscope_config.csv").set_index(
        "Metadata_Source"
    )
    table = pd.read_csv(REFERENCE / "schemas" / "source_table.csv", dtype=str).set_index("source")
    numbers = pd.read_csv(REFERENCE / "metadata" / "channel_mapping.csv").set_index(
        "Metadata_Source"
    )
    assert set(MICROSCOPES) == set(SOURCES)
    for source, microscope in MICROSCOPES.items():
        fact, habits = facts.loc[source], SOURCES[source]
        assert microscope.name == fact["Metadata_Microscope_Name"]
        assert microscope.mode == fact["Metadata_Widefield_vs_Confocal"]
        assert microscope.light == fact["Metadata_Excitation_Type"]
        assert microscope.aperture == fact["Metadata_Objective_NA"]
        assert microscope.filters == fact["Metadata_Filter_Configuration"]
        assert microscope.pixel_um == fact["Metadata_Pixel_Size_Microns"]
        assert habits.sites == fact["Metadata_Sites_Per_Well"]
        size = (table.loc[source, "height"].strip("?"), table.loc[source, "width"].strip("?"))
        assert habits.size == tuple(map(int, size))
        zero_based = "0-based" in str(table.loc[source, "site_numbering"])
        assert habits.first_site == (0 if zero_based else 1)
        row = numbers.loc[int(source.removeprefix("source_"))]
        assert habits.channels == tuple(row[f"Metadata_Channel_Num_{name}"] for name in CHANNELS)


def measure(images: np.ndarray, pixel_um: float) -> dict[str, float]:
    """Nuclei per mm2, their median area, and contrast (sd over mean) of each channel."""
    dna = ndimage.gaussian_filter(images[0].astype(float), 1.2 / pixel_um)
    level = 0.5 * (np.percentile(dna, 30) + np.percentile(dna, 97))
    labels, _ = ndimage.label(dna > level)
    areas = np.bincount(labels.ravel())[1:] * pixel_um**2
    areas = areas[areas > 30]
    found = {
        "nuclei per mm2": len(areas) / (dna.size * pixel_um**2 * 1e-6),
        "nucleus area um2": float(np.median(areas)),
    }
    for name, image in zip(CHANNELS, images.astype(float), strict=True):
        dark, bright = np.percentile(image, [1, 99])
        found[f"{name} contrast"] = image.std() / image.mean()
        found[f"{name} bright over dark"] = np.log(bright / dark)
    return found


def test_fields_resemble_a_real_one():
    """Density, size of nuclei and contrast lie within a factor of the real field's."""
    folder = JUMP_FIELD
    if not folder.exists():
        pytest.skip("needs the real field in ../shared/data/real")
    numbers = {"DNA": 4, "ER": 1, "RNA": 2, "AGP": 5, "Mito": 3}
    real = np.stack(
        [
            tifffile.imread(folder / f"r01c02f01p01-ch{numbers[name]}sk1fk1fl1.tiff")
            for name in CHANNELS
        ]
    )
    expected = measure(real, 0.598)
    for source in ("source_3", "source_5", "source_8"):
        settings = {"image_size": 640, "binning": 1.0}
        plate = plate_names(source, 1, 1)
        images, _ = simulated.simulate_site(plate, "A01", 0, np.zeros(17), settings, seed=1)
        found = measure(images, MICROSCOPES[source].pixel_um)
        for name, value in expected.items():
            factor = 1.5 if name.startswith("nucle") else 2.5
            assert 1 / factor < found[name] / value < factor, (source, name, found[name], value)
