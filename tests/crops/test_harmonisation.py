"""Harmonisation: spectra and filter against plain calculations, what it undoes, and where it must not act."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from coda.crops.harmonisation import (
    CAP,
    RIDGE,
    Harmonisation,
    Harmoniser,
    PlateSpectra,
    Rings,
    bin_width,
    control_weight,
    describe_reference,
    harmonise,
    load_harmonisations,
    load_spectra,
    measure_spectra,
    save_harmonisations,
    save_spectra,
    standardised,
    transform_sizes,
    transport,
)
from coda.crops.store import CropStore, CropWriter
from coda.errors import UserError
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter

CHANNELS = ["DNA", "ER"]
SIDE = 64
WIDTH = bin_width([1.0], SIDE)


def textures(count, sigmas=(1.5, 2.5), side=SIDE, seed=0):
    """Independent channels (count, C, side, side) of unit variance: blobs of two sizes on a little grain."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(count, len(sigmas), side, side))
    images = 0.1 * random.normal(size=noise.shape)
    for channel, sigma in enumerate(sigmas):
        blobs = gaussian_filter(noise[:, channel], (0, sigma, sigma), mode="reflect")
        images[:, channel] += blobs / blobs.std()
    return images


def as_bytes(images):
    """Grey values around 128, of which one unit of the image is 28."""
    return np.clip(np.round(128 + 28 * images), 0, 255).astype(np.uint8)


def spectra_of(crops, controls=8, wells=8, um=1.0, width=WIDTH, plate="P1"):
    """Spectra of a plate whose crops are spread over wells, the first of which are controls."""
    rings = Rings(crops.shape[2:], um, width)
    power = rings.spectra(crops).reshape(wells, -1, *rings.spectra(crops[:1]).shape[1:])
    names = [f"A{well + 1:02d}" for well in range(wells)]
    is_control = np.arange(wells) < controls
    return PlateSpectra("s", plate, CHANNELS, um, width, names, is_control, power.mean(axis=1))


def filter_with(gain, um=1.0, to=1.0, width=WIDTH):
    """A harmonisation with given gains."""
    blank = np.zeros_like(gain)
    return Harmonisation("s", "P1", "t", CHANNELS, um, to, width, 8, 1.0, 1.0, gain, blank, blank)


def filtered(harmonisation, crops):
    key = (harmonisation.source, harmonisation.plate)
    crops = torch.from_numpy(crops)
    return Harmoniser({key: harmonisation}, "cpu")(crops, [key] * len(crops)).numpy()


def identity(bins=20):
    return np.broadcast_to(np.eye(2), (bins, 2, 2)).copy()


def write_plate(path, crops, controls=8, wells=12, um=1.0, good=True, plate="P1"):
    """A store of as many sites a well; the first wells are controls."""
    with CropWriter(path, CHANNELS, SIDE, SIDE, {"um_per_pixel": um}) as writer:
        for site, crop in enumerate(crops):
            well = site * wells // len(crops)
            metadata = {
                "Metadata_Source": "s",
                "Metadata_Plate": plate,
                "Metadata_Well": f"A{well + 1:02d}",
                "Metadata_Site": site,
                "Metadata_pert_type": "negcon" if well < controls else "trt",
                "Quality_ok": good if isinstance(good, bool) else bool(good[site]),
            }
            writer.write(metadata, crop[None])
    return CropStore([path])


def test_spectra_equal_a_plain_fourier_transform_of_mirrored_crops():
    height, across, um, width = 12, 16, 0.8, 0.13
    crops = np.random.default_rng(0).integers(0, 256, (3, 2, height, across), dtype=np.uint8)
    values = crops.astype(float)
    values = (values - values.mean((2, 3), keepdims=True)) / values.std((2, 3), keepdims=True)
    mirrored = np.pad(values, [(0, 0), (0, 0), (0, height), (0, across)], mode="symmetric")
    waves = [
        np.exp(-2j * np.pi * np.outer(np.arange(2 * side), np.arange(2 * side)) / (2 * side))
        for side in (height, across)
    ]
    transformed = np.einsum("ky,ncyx,xl->nckl", waves[0], mirrored, waves[1])
    sums, counts = {}, {}
    for k in range(height):
        for l in range(across):  # noqa: E741
            if k == l == 0:
                continue
            ring = int(np.hypot(k / (2 * height * um), l / (2 * across * um)) / width)
            at = transformed[:, :, k, l]
            # A cosine is a pair of waves on an axis of the plane, and four off the axes.
            power = (at[:, :, None] * at[:, None, :].conj()).real / (16 * height * across) * um**2
            sums[ring] = sums.get(ring, 0) + power * (4 if k and l else 2)
            counts[ring] = counts.get(ring, 0) + 1
    expected = np.stack([sums[ring] / counts[ring] for ring in range(len(sums))], axis=1)
    spectra = Rings((height, across), um, width).spectra(crops)
    assert spectra.shape == expected.shape
    assert np.allclose(spectra, expected, rtol=1e-10, atol=1e-12)


def test_the_mean_power_of_a_crop_is_its_variance():
    rings = Rings((SIDE, SIDE), 0.8, WIDTH)
    power = rings.spectra(as_bytes(textures(2)))
    sizes = np.diff([*rings.starts, SIDE * SIDE - 1])
    mean = np.einsum("nfcc,f->nc", power, sizes) / (SIDE * 0.8) ** 2
    assert mean == pytest.approx(np.ones((2, 2)), abs=1e-9)


def test_transport_equals_the_formula_by_another_library():
    random = np.random.default_rng(1)
    factors = random.normal(size=(2, 6, 5, 5))
    before, wanted = factors @ factors.transpose(0, 1, 3, 2)
    found = transport(before, wanted, ridge=0, cap=np.inf)
    for one, other, gain in zip(before, wanted, found, strict=True):
        root = sqrtm(one)
        inverse = np.linalg.inv(root)
        expected = inverse @ sqrtm(root @ other @ root) @ inverse
        assert np.allclose(gain, expected, rtol=1e-6, atol=1e-8)
        assert np.allclose(gain @ one @ gain, other, rtol=1e-6, atol=1e-8)


def test_equal_spectra_give_the_identity_and_gains_end_at_the_cap():
    spectra = np.array([np.diag([1.0, 2.0]), np.zeros((2, 2))])
    assert np.allclose(transport(spectra, spectra, RIDGE, CAP), np.eye(2), atol=1e-9)
    faint = np.array([[[1e-3, 0.5e-3], [0.5e-3, 1e-3]]])
    gain = transport(faint, 100 * faint, ridge=0, cap=CAP)
    assert np.allclose(gain, CAP * np.eye(2))
    assert np.allclose(transport(faint, 100 * faint, ridge=0, cap=20), 10 * np.eye(2))
    # What neither lab has is not made up.
    assert np.allclose(transport(1e-9 * faint, 1e-6 * faint, RIDGE, CAP), np.eye(2), atol=1e-3)


def test_filter_equals_a_plain_calculation_in_float64():
    random = np.random.default_rng(2)
    crops = random.integers(40, 200, (3, 2, 20, 24), dtype=np.uint8)
    factors = random.normal(size=(9, 2, 2)) * 0.4
    gain = factors @ factors.transpose(0, 2, 1) + 0.6 * np.eye(2)
    harmonisation = filter_with(gain, um=0.7, to=0.7, width=0.09)
    values = standardised(crops)
    pads, waves, frequencies = [], [], []
    for side in crops.shape[2:]:
        size, _ = transform_sizes(side, 1.0)
        pads.append(((size - side) // 2, size - side - (size - side) // 2))
        waves.append(np.exp(-2j * np.pi * np.outer(np.arange(size), np.arange(size)) / size))
        steps = np.arange(size)
        frequencies.append(np.where(steps > size // 2, steps - size, steps) / (size * 0.7))
    padded = np.pad(values, [(0, 0), (0, 0), *pads], mode="reflect")
    transformed = np.einsum("ky,ncyx,xl->nckl", waves[0], padded, waves[1])
    middles = (np.arange(9) + 0.5) * 0.09
    for k, down in enumerate(frequencies[0]):
        for l, right in enumerate(frequencies[1]):  # noqa: E741
            at = np.hypot(down, right)
            matrix = [[np.interp(at, middles, gain[:, i, j]) for j in (0, 1)] for i in (0, 1)]
            transformed[:, :, k, l] = transformed[:, :, k, l] @ np.array(matrix).T
    inverse = [each.conj() / len(each) for each in waves]
    result = np.einsum("yk,nckl,lx->ncyx", inverse[0], transformed, inverse[1]).real
    result = result[:, :, pads[0][0] :, pads[1][0] :][:, :, :20, :24]
    result -= result.mean((2, 3), keepdims=True)
    result *= crops.std((2, 3), keepdims=True) / result.std((2, 3), keepdims=True)
    result += crops.mean((2, 3), keepdims=True)
    assert result.min() > 0 and result.max() < 255
    assert np.abs(filtered(harmonisation, crops) - result).max() < 2e-3


def test_blur_contrast_and_bleed_through_are_undone_down_to_the_noise():
    # Fine textures, since crops count by their own deviation, which is the same in all only where they are.
    fine, noise = (0.8, 1.4), np.random.default_rng(4)
    clean = textures(160, fine, seed=3)
    mixing = np.array([[1, 0.4], [0.4, 1]])
    # Blur and mixing act on images that go on beyond the crop, so the crop is cut out afterwards.
    wide = textures(80, fine, side=SIDE + 32, seed=5)
    spoilt = np.einsum("ij,njyx->niyx", mixing, gaussian_filter(wide, (0, 0, 0.8, 0.8)))
    spoilt /= spoilt.std()
    grain = 0.01 * noise.normal(size=spoilt.shape)
    cut = (..., slice(16, -16), slice(16, -16))
    target, wanted = as_bytes((0.6 * (spoilt + grain))[cut]), as_bytes(wide[cut])
    harmonisation = harmonise(spectra_of(target), [spectra_of(as_bytes(clean))], cap=100)
    truth = standardised(wanted)
    before = np.square(standardised(target) - truth).mean()
    result = standardised(filtered(harmonisation, target))
    inner = (..., slice(8, -8), slice(8, -8))  # the mirrored borders are not what was there
    error = np.square(result - truth)[inner].mean()
    # The filter amplifies the camera's noise and the rounding to 8 bits, both white.
    rings = Rings((SIDE, SIDE), 1.0, WIDTH)
    sizes = np.diff([*rings.starts, SIDE * SIDE - 1])
    variance = 0.01**2 + 1 / 12 / (0.6 * 28) ** 2
    squares = np.einsum("fij,fij,f->", *[harmonisation.gain] * 2, sizes)
    floor = variance * squares / 2 / SIDE**2
    assert before > 0.2
    assert floor < error < floor + 0.05 * before


def test_a_plate_against_itself_is_left_as_it_is():
    crops = as_bytes(textures(192, seed=6))
    halves = spectra_of(crops[:96]), spectra_of(crops[96:], plate="P2")
    same = harmonise(halves[0], [halves[1]])
    assert same.strength < 0.5
    assert np.abs(same.gain - np.eye(2)).max() < 0.1
    change = filtered(same, crops[:16]) - crops[:16]
    assert np.sqrt(np.square(change).mean()) < 0.03 * crops.std()
    other = spectra_of(as_bytes(gaussian_filter(textures(96, seed=7), (0, 0, 1, 1)) * 1.5))
    assert harmonise(other, [halves[1]]).strength > 0.95


def test_treated_wells_of_the_target_change_nothing(tmp_path):
    training = measure_spectra(write_plate(tmp_path / "t", as_bytes(textures(48, seed=8))), WIDTH)
    crops = as_bytes(gaussian_filter(textures(48, seed=9), (0, 0, 1, 1)))
    whole = measure_spectra(write_plate(tmp_path / "a", crops), WIDTH)
    shuffled = crops.copy()
    shuffled[32:] = np.random.default_rng(0).permutation(crops[32:])
    shuffled[40:] = 255 - shuffled[40:] // 2
    other = measure_spectra(write_plate(tmp_path / "b", shuffled), WIDTH)
    only = measure_spectra(CropStore([tmp_path / "a"]), WIDTH, "controls")
    assert only.wells == whole.wells[:8] and only.controls.all()
    gains = [harmonise(plate, [training]).gain for plate in (whole, other, only)]
    assert np.array_equal(gains[0], gains[1]) and np.array_equal(gains[0], gains[2])
    mixed = [harmonise(plate, [training], "all").gain for plate in (whole, other)]
    assert not np.array_equal(*mixed)


def test_sites_of_poor_quality_do_not_count(tmp_path):
    crops = as_bytes(textures(24, seed=10))
    spoilt = crops.copy()
    spoilt[::2] = 7
    clean = measure_spectra(write_plate(tmp_path / "a", crops[1::2]), WIDTH)
    good = measure_spectra(write_plate(tmp_path / "b", spoilt, good=np.arange(24) % 2), WIDTH)
    assert np.array_equal(clean.power, good.power)
    with pytest.raises(UserError, match="P1 has no site of good quality"):
        measure_spectra(write_plate(tmp_path / "c", crops, good=False), WIDTH)


@pytest.mark.parametrize("controls", [0, 1])
def test_without_enough_controls_all_wells_are_taken_and_it_is_said(tmp_path, controls):
    training = spectra_of(as_bytes(textures(96, seed=11)))
    crops = as_bytes(gaussian_filter(textures(96, seed=12), (0, 0, 1, 1)))
    plate = spectra_of(crops, controls)
    by_all = harmonise(plate, [training], "all")
    for reference in ("controls", "shrunken"):
        found = harmonise(plate, [training], reference)
        assert np.array_equal(found.gain, by_all.gain) and found.weight == 0
        assert describe_reference(found) == "all wells"
    none = replace(training, controls=np.zeros(8, bool))
    assert harmonise(spectra_of(crops), [none]).weight == 0
    store = write_plate(tmp_path / "a", crops[:24], controls)
    assert len(measure_spectra(store, WIDTH, "controls").wells) == 12


def test_a_plate_of_one_well_tells_nothing_and_is_left_as_it_is():
    training = spectra_of(as_bytes(textures(96, seed=11)))
    plate = spectra_of(as_bytes(gaussian_filter(textures(8, seed=12), (0, 0, 1, 1))), 1, 1)
    found = harmonise(plate, [training])
    assert found.strength == 0 and np.allclose(found.gain, np.eye(2), atol=1e-6)


def test_controls_weigh_more_the_more_there_are_and_the_more_they_differ_from_the_rest():
    random = np.random.default_rng(13)

    def plate(controls, shift):
        wells = controls + 40
        power = identity(16) * (1 + 0.2 * random.normal(size=(wells, 16, 1, 1)))
        power[:controls] += shift * np.eye(2)
        names = [str(well) for well in range(wells)]
        is_control = np.arange(wells) < controls
        return PlateSpectra("s", "P", CHANNELS, 1.0, 0.02, names, is_control, power)

    def weight(controls, shift):
        return np.mean([control_weight(plate(controls, shift)) for _ in range(20)])

    assert weight(4, 0) < 0.4 and weight(40, 0) < 0.1  # nothing but chance sets them apart
    assert weight(2, 0.3) < weight(8, 0.3) < weight(40, 0.3) and weight(40, 0.3) > 0.9
    assert weight(4, 0.3) < weight(4, 0.6)
    found = harmonise(plate(4, 0.3), [plate(16, 0.3)], "shrunken")
    assert 0 < found.weight < 1
    assert describe_reference(found) == f"4 control wells ({found.weight:.0%}) and all wells"


def waves(count, um, seed, side=SIDE):
    """The same sample at any size of a pixel: plane waves around 0.12 per um."""
    random = np.random.default_rng(seed)
    frequency = random.normal(0.12, 0.03, (count, 2, 60))
    direction, phase = random.uniform(0, 2 * np.pi, (2, count, 2, 60))
    place = (np.arange(side) - (side - 1) / 2) * um
    inner = (
        frequency[..., None, None]
        * (
            np.cos(direction)[..., None, None] * place[:, None]
            + np.sin(direction)[..., None, None] * place
        )
        + phase[..., None, None]
    )
    return np.cos(2 * np.pi * inner + phase[..., None, None]).sum(axis=2) / 60**0.5


def test_frequencies_are_per_um_so_that_pixel_sizes_do_not_matter():
    width = bin_width([1.0, 1.25], SIDE)
    fine, coarse = (
        spectra_of(as_bytes(waves(64, um, seed=14 + number)), um=um, width=width)
        for number, um in enumerate((1.0, 1.25))
    )
    assert fine.power.shape[1] > coarse.power.shape[1]
    found = harmonise(coarse, [fine])
    bright = slice(int(0.06 / width), int(0.18 / width))
    assert np.abs(found.gain[bright] - np.eye(2)).max() < 0.2
    # Counted by pixels, the same waves lie a quarter off.
    wrong = harmonise(spectra_of(as_bytes(waves(64, 1.25, seed=15)), width=width), [fine])
    assert np.abs(wrong.gain[bright] - np.eye(2)).max() > 0.5


@pytest.mark.parametrize("um", [0.9, 1.1, 1.3])
def test_crops_come_to_the_other_size_of_a_pixel(um):
    crops, wanted = as_bytes(waves(5, um, seed=16)), as_bytes(waves(5, 1.0, seed=16))
    result = filtered(filter_with(identity(), um=um, to=1.0), crops)
    assert result.shape == crops.shape
    shown = int(min(1, um) * SIDE) // 2 - 6
    middle = (
        ...,
        slice(SIDE // 2 - shown, SIDE // 2 + shown),
        slice(SIDE // 2 - shown, SIDE // 2 + shown),
    )
    for one, other in zip(result[middle], wanted[middle], strict=True):
        for channel in range(2):
            assert np.corrcoef(one[channel].ravel(), other[channel].ravel())[0, 1] > 0.99


@pytest.mark.parametrize("ratio", [1.0, 0.598 / 0.65, 0.7032 / 0.65, 0.598 / 0.7032, 0.5, 2.0])
@pytest.mark.parametrize("side", [64, 128, 448])
def test_sizes_of_the_transforms_fit_the_pixels(side, ratio):
    size, to = transform_sizes(side, ratio)
    assert to / size == pytest.approx(ratio, rel=4e-3)
    assert to >= side and size - side < 2 * side  # a mirrored border is narrower than the crop
    assert size % 2 == to % 2 == 0  # the middle stays in the middle


def test_identity_returns_the_crops_and_grey_values_stay_in_range():
    crops = np.random.default_rng(17).integers(0, 256, (5, 2, SIDE, SIDE), dtype=np.uint8)
    assert np.abs(filtered(filter_with(identity()), crops) - crops).max() < 2e-3
    sharp = identity(16) * np.linspace(0.2, 4, 16)[:, None, None]
    crops = as_bytes(textures(6, seed=18))
    crops[:, 0] = 64 + crops[:, 0] // 2
    crops[:, 1] = np.maximum(crops[:, 1], 100) - 100  # near black
    result = filtered(filter_with(sharp), crops)
    assert result.dtype == np.float32 and result.min() >= 0 and result.max() <= 255
    # The first channel has room for its mean and deviation; the second is moved, never clipped.
    assert result[:, 0].mean((1, 2)) == pytest.approx(crops[:, 0].mean((1, 2)), abs=1e-2)
    assert result[:, 0].std((1, 2)) == pytest.approx(crops[:, 0].std((1, 2)), rel=1e-3)
    free = filtered(filter_with(sharp), np.uint8(64) + crops // 2)
    ends = np.isclose(result, 0, atol=1e-3) | np.isclose(result, 255, atol=1e-3)
    assert ends.sum(axis=(2, 3)).max() <= 2
    assert np.isfinite(free).all()


def test_a_blank_channel_stays_blank_and_harms_no_other():
    crops = as_bytes(textures(16, seed=19))
    crops[:, 1] = 33
    training = spectra_of(as_bytes(textures(96, seed=20)))
    plate = spectra_of(crops)
    assert np.isfinite(plate.power).all()
    found = harmonise(plate, [training])
    assert np.isfinite(found.gain).all() and np.linalg.eigvalsh(found.gain).max() <= CAP + 1e-9
    result = filtered(found, crops)
    assert np.abs(result[:, 1] - 33).max() < 1e-3
    assert np.corrcoef(result[:, 0].ravel(), crops[:, 0].ravel())[0, 1] > 0.8


def test_each_crop_gets_the_filter_of_its_plate_whatever_the_batch():
    random = np.random.default_rng(21)
    crops = random.integers(0, 256, (11, 2, 32, 32), dtype=np.uint8)
    ramps = np.linspace(0.5, 2, 16)[:, None, None]
    filters = {
        ("s", "P1"): filter_with(identity(16) * ramps),
        ("s", "P2"): filter_with(identity(16) / ramps),
    }
    plates = [("s", f"P{1 + number}") for number in random.integers(0, 3, 11)]
    assert ("s", "P3") in plates
    together = Harmoniser(filters, "cpu")(torch.from_numpy(crops), plates).numpy()
    for crop, plate, result in zip(crops, plates, together, strict=True):
        alone = (
            filtered(replace(filters[plate], plate=plate[1]), crop[None])[0]
            if plate in filters
            else crop
        )
        assert np.abs(result - alone).max() < 2e-3


def test_tables_come_back_as_they_were(tmp_path):
    plate = spectra_of(as_bytes(textures(24, seed=22)), controls=3)
    # A coarser plate has fewer bins.
    other = spectra_of(as_bytes(textures(24, seed=24)), um=1.25, plate="P2")
    save_spectra([other, plate], tmp_path / "spectra.parquet")
    coarse, again = load_spectra(tmp_path / "spectra.parquet")
    assert np.array_equal(coarse.power, other.power) and coarse.plate == "P2"
    assert vars(again).keys() == vars(plate).keys()
    for name, value in vars(plate).items():
        assert np.array_equal(getattr(again, name), value), name
    found = harmonise(
        again, [spectra_of(as_bytes(textures(96, seed=23)))], "shrunken", rescale=True
    )
    second = replace(
        found, plate="P2", gain=found.gain[:9], before=found.before[:9], wanted=found.wanted[:9]
    )
    save_harmonisations([found, second], tmp_path / "filter.parquet")
    back, last = load_harmonisations(tmp_path / "filter.parquet")
    assert last.plate == "P2" and np.array_equal(last.gain, second.gain)
    for name, value in vars(found).items():
        assert np.array_equal(getattr(back, name), value), name
    table = pd.read_parquet(tmp_path / "filter.parquet").query("Metadata_Plate == 'P1'")
    assert len(table) == len(found.gain) * 4
    row = table.query("channel_to == 'ER' and channel_from == 'DNA'").iloc[5]
    assert row["gain"] == found.gain[5, 1, 0] and row["spectrum_after"] == found.after[5, 1, 0]
    assert row["frequency_per_um"] == pytest.approx(5.5 * WIDTH)
    assert (table["reference"] == describe_reference(found)).all()


def test_what_cannot_be_compared_is_refused(tmp_path):
    crops = as_bytes(textures(24, seed=24))
    with pytest.raises(UserError, match=r"sources\.s\.um_per_pixel"):
        measure_spectra(write_plate(tmp_path / "a", crops, um=None), WIDTH)
    plate = spectra_of(crops)
    with pytest.raises(UserError, match="differ in channels or bins"):
        harmonise(plate, [replace(plate, channels=["DNA", "AGP"], plate="P2")])
    with pytest.raises(UserError, match="differ in channels or bins"):
        harmonise(plate, [replace(plate, width=0.5, plate="P2")])
    with pytest.raises(ValueError, match="hold no frequency"):
        Rings((16, 16), 1.0, 0.01)


def test_the_ridge_keeps_rounding_out():
    power = identity(4) * np.array([1, 1e-2, 1e-7, 1e-12])[:, None, None]
    gain = transport(power, power[::-1][[1, 1, 0, 0]], RIDGE, np.inf)
    assert np.allclose(gain[2:], np.eye(2), atol=0.01)
