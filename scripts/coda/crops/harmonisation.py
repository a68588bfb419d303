"""Harmonisation by controls: a plate's images filtered to the spectra that the training source's controls have.

Two microscopes show the same cells with another sharpness, contrast, noise and bleed-through. Taken as a
stationary Gaussian texture, all that an image has is its cross-spectral matrix S(f), channels by channels, at
each radial frequency f. Negative controls hold the same cells in both labs, so their matrices S_t (target) and
S_s (training source) differ by the microscopes. Of all linear filters that turn one into the other,

    T(f) = S_t^(-1/2) (S_t^(1/2) S_s S_t^(1/2))^(1/2) S_t^(-1/2)

changes images least: optimal transport between Gaussians (Olkin and Pukelsheim 1982), here at each frequency as
Xia et al. (2014) did for textures. Its diagonal undoes differences of blur, noise and contrast, the rest
bleed-through. It needs no label and no training. Spectra of a few wells are uncertain, so S_s is drawn towards
S_t as far as chance may explain the difference: where there is no shift, images stay as they are.

Frequencies are in cycles per um, so that plates of different pixel sizes can be compared. Crops count as the
networks see them: each channel less its mean, over its standard deviation.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from coda.crops.store import CropStore
from coda.errors import UserError
from coda.files import read_table, write_table

BINS = 32  # of radial frequency up to the Nyquist frequency of the coarsest pixels
RIDGE = 1e-4  # of the mean power over all frequencies, added to each
# The most that any mix of channels is amplified at any frequency: noise grows as much as what it hides.
CAP = 4.0
FEWEST = 2  # control wells: one alone does not tell how far it is from others
MARGIN = 16  # pixels that are mirrored at each border before the filter
# Crops filtered at once on a CPU. Tensors of more than 32 MiB would be taken from the system and given back each
# time, which doubles the time (measured).
TOGETHER = 4
TOLERANCE = 4e-3  # of a pixel size: less than two pixels across a crop of 448
BLANK = 1e-3  # grey levels: a channel with a lower standard deviation shows nothing


@dataclass(frozen=True)
class PlateSpectra:
    """Cross-spectral matrices of the wells of a plate.

    Attributes
    ----------
    source, plate : str
        Whose they are.
    channels : list of str
        Names of the C channels.
    um_per_pixel : float
        Pixel size of the crops.
    width : float
        Width of a bin of frequencies, in cycles per um; the first begins at 0.
    wells : list of str
        Names of the W wells.
    controls : bool array, shape (W,)
        Which of them are negative controls.
    power : float64 array, shape (W, F, C, C)
        Mean matrix of a well's fields, in um^2: variance per unit area of the plane of frequencies, the same at
        any pixel size. The integral of a diagonal entry over the plane is the variance of its channel, 1.
        Real, since an isotropic texture has no phase.
    """

    source: str
    plate: str
    channels: list[str]
    um_per_pixel: float
    width: float
    wells: list[str]
    controls: np.ndarray
    power: np.ndarray

    def moments(self, control_weight: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean over wells and its sampling variance, both (F, C, C).

        All control wells together weigh `control_weight`, all wells (controls among them) the rest. The variance
        comes from the differences between wells, whose fields are no independent evidence.
        """
        share = np.full(len(self.wells), (1 - control_weight) / len(self.wells))
        if control_weight:
            share += control_weight * self.controls / self.controls.sum()
        mean = np.tensordot(share, self.power, 1)
        freedom = 1 - (share**2).sum()
        if freedom < 1e-9:  # one well
            return mean, np.full_like(mean, np.inf)
        return mean, np.tensordot(share**2, (self.power - mean) ** 2, 1) / freedom


def bin_width(pixel_sizes: Sequence[float], side: int) -> float:
    """Width of the bins of frequency that all plates of a study share, in cycles per um.

    Parameters
    ----------
    pixel_sizes
        Um per pixel of all sources.
    side
        Side of the crops in pixels; small ones get fewer bins, so that each holds at least two of the
        frequencies that a crop resolves.
    """
    return 1 / (2 * max(pixel_sizes)) / min(BINS, side // 4)


def measure_spectra(
    store: CropStore,
    width: float,
    reference: str = "all",
    threads: int = 1,
    um_per_pixel: float | None = None,
) -> PlateSpectra:
    """Measure the cross-spectral matrices of the wells of one plate, from its sites of good quality.

    Parameters
    ----------
    store
        Crops of one plate.
    width
        Width of a bin, see `bin_width`.
    reference
        ``"controls"`` measures the negative controls only, where the plate has enough of them for `harmonise`.
    threads
        Threads of the Fourier transforms.
    um_per_pixel
        Size of a pixel, where the store does not know it.

    Raises
    ------
    UserError
        If the size of a pixel is unknown, or no site is of good quality.
    """
    table, um = store.table, store.settings["um_per_pixel"] or um_per_pixel
    source, plate = table[["Metadata_Source", "Metadata_Plate"]].iloc[0]
    if um is None:
        raise UserError(
            f"Harmonisation needs sources.{source}.um_per_pixel, the pixel size of the raw images."
        )
    good = (
        table["Quality_ok"].to_numpy(bool) if "Quality_ok" in table else np.ones(len(table), bool)
    )
    if not good.any():
        raise UserError(
            f"Plate {plate} has no site of good quality to harmonise by; see its quality figures."
        )
    control = (table["Metadata_pert_type"] == "negcon").to_numpy()
    controls = good & control
    enough = table["Metadata_Well"][controls].nunique() >= FEWEST
    numbers = np.flatnonzero(controls if reference == "controls" and enough else good)
    fields = table.iloc[numbers].groupby("Metadata_Well", sort=True).indices
    rings = Rings((store.height, store.width), um, width)
    power = [
        rings.spectra(store.gather(numbers[mine]), threads).mean(0) for mine in fields.values()
    ]
    return PlateSpectra(
        source,
        plate,
        store.channels,
        um,
        width,
        list(fields),
        np.array([control[numbers[mine[0]]] for mine in fields.values()]),
        np.stack(power),
    )


class Rings:
    """Frequencies of a crop, gathered in rings of equal distance from 0.

    A crop continues beyond its borders as its mirror image, as it does for the filter, so its transform is the
    cosine transform. A window would do against borders too, but discards three quarters of the image: with
    Hann's, spectra of 24 fields have twice the error (measured).

    Parameters
    ----------
    size
        Height and width of a crop in pixels.
    um_per_pixel
        Size of a pixel.
    width
        Width of a ring, in cycles per um.
    """

    def __init__(self, size: tuple[int, int], um_per_pixel: float, width: float):
        rows, columns = (np.arange(side) / (2 * side * um_per_pixel) for side in size)
        ring = (np.hypot(rows[:, None], columns) / width).astype(int).ravel()
        self.area = um_per_pixel**2
        self.order = np.argsort(ring, kind="stable")[1:]  # all but the mean, which comes first
        numbers, self.starts = np.unique(ring[self.order], return_index=True)
        if not np.array_equal(numbers, np.arange(len(numbers))):
            raise ValueError(f"bins of {width} per um hold no frequency of crops of {size} pixels")

    def spectra(self, crops: np.ndarray, threads: int = 1) -> np.ndarray:
        """Cross-spectral matrices (N, rings, C, C), float64, of uint8 crops (N, C, H, W)."""
        from scipy import fft  # to apply filters, on a machine for trainings, takes no SciPy

        count, channels = crops.shape[:2]
        waves = fft.dctn(standardised(crops), axes=(2, 3), norm="ortho", workers=threads)
        waves = waves.reshape(count, channels, -1)[..., self.order]
        sizes = np.diff([*self.starts, len(self.order)])
        power = np.empty((count, len(sizes), channels, channels))
        for one in range(channels):
            for other in range(one + 1):
                total = np.add.reduceat(waves[:, one] * waves[:, other], self.starts, axis=-1)
                power[:, :, one, other] = power[:, :, other, one] = self.area * total / sizes
        return power


def standardised(crops: np.ndarray) -> np.ndarray:
    """Each channel of each crop less its mean, over its standard deviation, float64; 0 where it is blank."""
    values = crops - crops.mean(axis=(2, 3), keepdims=True)
    deviation = values.std(axis=(2, 3), keepdims=True)
    return np.where(deviation > BLANK, values / np.maximum(deviation, BLANK), 0.0)


def save_spectra(plates: Sequence[PlateSpectra], path: str | os.PathLike) -> None:
    """Write one row a plate, well, frequency and pair of channels."""
    write_table(pd.concat(map(_spectra_table, plates), ignore_index=True), path)


def _spectra_table(spectra: PlateSpectra) -> pd.DataFrame:
    wells, bins, channels, _ = spectra.power.shape
    one, other = np.tril_indices(channels)
    index = pd.MultiIndex.from_product([range(wells), range(bins), range(len(one))])
    well, ring, pair = (index.get_level_values(level).to_numpy() for level in range(3))
    names = np.array(spectra.channels)
    return pd.DataFrame(
        {
            "Metadata_Source": spectra.source,
            "Metadata_Plate": spectra.plate,
            "Metadata_Well": np.array(spectra.wells)[well],
            "control": spectra.controls[well],
            "um_per_pixel": spectra.um_per_pixel,
            "width_per_um": spectra.width,
            "frequency_per_um": (ring + 0.5) * spectra.width,
            "channel_a": names[one[pair]],
            "channel_b": names[other[pair]],
            "power": spectra.power[:, :, one, other].ravel(),
        }
    )


def load_spectra(path: str | os.PathLike) -> list[PlateSpectra]:
    """Read what `save_spectra` wrote."""
    plates = read_table(path).groupby(["Metadata_Source", "Metadata_Plate"], sort=False)
    return [_spectra_of(table) for _, table in plates]


def _spectra_of(table: pd.DataFrame) -> PlateSpectra:
    channels, wells = list(table["channel_a"].unique()), list(table["Metadata_Well"].unique())
    one, other = np.tril_indices(len(channels))
    values = table["power"].to_numpy().reshape(len(wells), -1, len(one))
    power = np.empty((*values.shape[:2], len(channels), len(channels)))
    power[..., one, other] = power[..., other, one] = values
    first = table.iloc[0]
    controls = table.drop_duplicates("Metadata_Well")["control"].to_numpy(bool)
    names = (first[name] for name in ("Metadata_Source", "Metadata_Plate"))
    return PlateSpectra(
        *names, channels, first["um_per_pixel"], first["width_per_um"], wells, controls, power
    )


@dataclass(frozen=True)
class Harmonisation:
    """The filter of a plate.

    Attributes
    ----------
    source, plate, training_source : str
        Whose images are filtered, and whose spectra they get.
    channels : list of str
        Names of the C channels.
    um_per_pixel, to_um_per_pixel : float
        Size of a pixel before and after.
    width : float
        Width of a bin of frequencies, in cycles per um.
    controls : int
        Control wells of the plate.
    weight : float
        Share of the controls in the spectra, 0 to 1; the rest are all wells, controls among them.
    strength : float
        Share of the difference between the labs that is undone, 0 to 1; the rest may be chance.
    gain, before, wanted : float64 arrays, shape (F, C, C)
        T, S_t and S_s at the middle of each bin.
    """

    source: str
    plate: str
    training_source: str
    channels: list[str]
    um_per_pixel: float
    to_um_per_pixel: float
    width: float
    controls: int
    weight: float
    strength: float
    gain: np.ndarray
    before: np.ndarray
    wanted: np.ndarray

    @property
    def frequency(self) -> np.ndarray:
        """Middle of each bin, in cycles per um, shape (F,)."""
        return (np.arange(len(self.gain)) + 0.5) * self.width

    @property
    def after(self) -> np.ndarray:
        """Spectra of the filtered images, shape (F, C, C): those wanted, but for strength, ridge and cap."""
        return self.gain @ self.before @ self.gain


def harmonise(
    plate: PlateSpectra,
    training: Sequence[PlateSpectra],
    reference: str = "controls",
    rescale: bool = False,
    ridge: float = RIDGE,
    cap: float = CAP,
) -> Harmonisation:
    """Find the filter that gives a plate the spectra of the training source.

    Parameters
    ----------
    plate
        Spectra of the plate.
    training
        Spectra of the training source's plates, whose mean is wanted.
    reference
        Which wells give the spectra, in both labs alike: the negative ``"controls"``, ``"all"`` wells, or
        ``"shrunken"``, a mix of both by `control_weight`. A plate with fewer than `FEWEST` control wells, or
        whose training source has none, takes all wells; `Harmonisation.weight` says so.
    rescale
        Whether crops are also brought to the training source's size of a pixel. Frequencies that the
        plate's pixels did not resolve stay empty.
    ridge, cap
        See `transport`; the ridge as a share of the mean power over all frequencies.

    Raises
    ------
    UserError
        If channels or bins of frequency differ.
    """
    for other in training:
        if (other.channels, other.width) != (plate.channels, plate.width):
            raise UserError(
                f"The spectra of plates {plate.plate} and {other.plate} differ in channels or bins; "
                "remove both tables and measure them again."
            )
    counted = [each for each in training if each.controls.any()]
    weight = 0.0
    if reference != "all" and plate.controls.sum() >= FEWEST and counted:
        weight = 1.0 if reference == "controls" else control_weight(plate)
    bins = min(each.power.shape[1] for each in (plate, *training))
    before, variance = (each[:bins] for each in plate.moments(weight))
    measured = [each.moments(weight) for each in (counted if weight else training)]
    wanted = np.mean([mean[:bins] for mean, _ in measured], axis=0)
    variance = variance + sum(each[:bins] for _, each in measured) / len(measured) ** 2
    strength = shrinkage(wanted, variance, before)
    um, to = plate.um_per_pixel, float(np.mean([each.um_per_pixel for each in training]))
    return Harmonisation(
        plate.source,
        plate.plate,
        training[0].source,
        plate.channels,
        um,
        to if rescale else um,
        plate.width,
        int(plate.controls.sum()),
        weight,
        strength,
        transport(before, before + strength * (wanted - before), ridge * um**2, cap),
        before,
        wanted,
    )


def control_weight(plate: PlateSpectra) -> float:
    """Weight of the controls against all wells: little where they are few, vary, and differ little from all."""
    return shrinkage(*plate.moments(1.0), plate.moments(0.0)[0])


def shrinkage(estimate: np.ndarray, variance: np.ndarray, towards: np.ndarray) -> float:
    """Weight of an estimate against a fixed one that errs otherwise, for the least expected squared error.

    1 - V / D^2, at least 0, where V is the variance of the estimate and D its distance from the other (James and
    Stein 1961; for covariances Ledoit and Wolf 2004, Schaefer and Strimmer 2005). One weight for all
    frequencies and channels, since a weight for each would itself be uncertain.

    Parameters
    ----------
    estimate, variance, towards
        Cross-spectral matrices (F, C, C). Entries count in units of the powers of `towards`, so that faint
        frequencies count as much as bright ones.
    """
    power = np.sqrt(np.diagonal(towards, axis1=1, axis2=2)).clip(min=BLANK)
    unit = power[:, :, None] * power[:, None, :]
    distance = (((estimate - towards) / unit) ** 2).sum()
    return float(max(0.0, 1 - (variance / unit**2).sum() / distance)) if distance else 0.0


def transport(before: np.ndarray, wanted: np.ndarray, ridge: float, cap: float) -> np.ndarray:
    """Optimal transport between Gaussians, matrix by matrix.

    Parameters
    ----------
    before, wanted
        Covariances (..., C, C), symmetric and not negative.
    ridge
        Added to the variances of both, so that what is absent does not count.
    cap
        Largest gain: singular values of the result, which is symmetric and not negative, are cut there.

    Returns
    -------
    float64 array, shape (..., C, C)
        T, with T before T = wanted where neither ridge nor cap matter (Olkin and Pukelsheim 1982).
    """
    eye = ridge * np.eye(before.shape[-1])
    values, vectors = np.linalg.eigh(before + eye)
    root = _composed(vectors, np.sqrt(values))
    inverse = _composed(vectors, 1 / np.sqrt(values))
    values, vectors = np.linalg.eigh(root @ (wanted + eye) @ root)
    gain = inverse @ _composed(vectors, np.sqrt(np.maximum(values, 0))) @ inverse
    values, vectors = np.linalg.eigh((gain + np.swapaxes(gain, -1, -2)) / 2)
    return _composed(vectors, np.clip(values, 0, cap))


def _composed(vectors: np.ndarray, values: np.ndarray) -> np.ndarray:
    return (vectors * values[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def save_harmonisations(plates: Sequence[Harmonisation], path: str | os.PathLike) -> None:
    """Write one row a plate, frequency and pair of channels, with what `load_harmonisations` needs in every row."""
    write_table(pd.concat(map(_harmonisation_table, plates), ignore_index=True), path)


def _harmonisation_table(harmonisation: Harmonisation) -> pd.DataFrame:
    bins, channels, _ = harmonisation.gain.shape
    index = pd.MultiIndex.from_product([range(bins), range(channels), range(channels)])
    ring, to, of = (index.get_level_values(level).to_numpy() for level in range(3))
    names = np.array(harmonisation.channels)
    common = {
        "Metadata_Source": harmonisation.source,
        "Metadata_Plate": harmonisation.plate,
        "training_source": harmonisation.training_source,
        "um_per_pixel": harmonisation.um_per_pixel,
        "to_um_per_pixel": harmonisation.to_um_per_pixel,
        "width_per_um": harmonisation.width,
        "control_wells": harmonisation.controls,
        "control_weight": harmonisation.weight,
        "strength": harmonisation.strength,
        "reference": describe_reference(harmonisation),
    }
    values = {
        "frequency_per_um": harmonisation.frequency[ring],
        "channel_to": names[to],
        "channel_from": names[of],
        "gain": harmonisation.gain.ravel(),
        "spectrum_before": harmonisation.before.ravel(),
        "spectrum_wanted": harmonisation.wanted.ravel(),
        "spectrum_after": harmonisation.after.ravel(),
    }
    return pd.DataFrame(common | values)


def describe_reference(harmonisation: Harmonisation) -> str:
    """Say which wells gave the spectra."""
    wells = f"{harmonisation.controls} control well{'s' * (harmonisation.controls != 1)}"
    if harmonisation.weight == 1:
        return wells
    if harmonisation.weight == 0:
        return "all wells"
    return f"{wells} ({harmonisation.weight:.0%}) and all wells"


def load_harmonisations(path: str | os.PathLike) -> list[Harmonisation]:
    """Read what `save_harmonisations` wrote."""
    plates = read_table(path).groupby(["Metadata_Source", "Metadata_Plate"], sort=False)
    return [_harmonisation_of(table) for _, table in plates]


def _harmonisation_of(table: pd.DataFrame) -> Harmonisation:
    first, channels = table.iloc[0], list(table["channel_to"].unique())
    shape = (-1, len(channels), len(channels))
    names = ("Metadata_Source", "Metadata_Plate", "training_source")
    numbers = (
        *("um_per_pixel", "to_um_per_pixel", "width_per_um"),
        *("control_wells", "control_weight", "strength"),
    )
    spectra = ("gain", "spectrum_before", "spectrum_wanted")
    return Harmonisation(
        *(first[name] for name in names),
        channels,
        *(first[name].item() for name in numbers),
        *(table[name].to_numpy().reshape(shape) for name in spectra),
    )


class Harmoniser:
    """Filter crops on the device, each by the filter of its plate.

    Two crops travel as real and imaginary part through one complex Fourier transform: gains are real and even
    in frequency, so they map the parts apart. Borders are mirrored. Each channel keeps its mean, and its
    standard deviation too, where 0 to 255 has room for it; else it is moved and compressed as much as need be,
    which standardised views do not see. So nothing is clipped.

    Parameters
    ----------
    harmonisations
        The plates' filters, by source and plate. Crops of other plates come out as they were.
    device
        Where the crops are.
    """

    def __init__(
        self, harmonisations: Mapping[tuple[str, str], Harmonisation], device: torch.device | str
    ):
        self.device = torch.device(device)
        self.filters = {key: Filter(each, self.device) for key, each in harmonisations.items()}

    @torch.no_grad()
    def __call__(self, crops: torch.Tensor, plates: Sequence[tuple[str, str]]) -> torch.Tensor:
        """Filter uint8 crops (N, C, H, W) of N `plates`, (source, plate); float32 within 0 to 255."""
        result = torch.empty(crops.shape, dtype=torch.float32, device=crops.device)
        rows: dict[tuple[str, str], list[int]] = {}
        for row, plate in enumerate(plates):
            rows.setdefault(plate, []).append(row)
        for plate, mine in rows.items():
            together = TOGETHER if self.device.type == "cpu" else len(mine)
            for start in range(0, len(mine), together):
                chosen = torch.tensor(mine[start : start + together], device=crops.device)
                part = crops[chosen].float()
                if plate in self.filters:
                    part = self.filters[plate](part)
                result.index_copy_(0, chosen, part)
        return result


class Filter:
    """The filter of one plate, for crops of any size; its gains are laid out at the first crops of a size."""

    def __init__(self, harmonisation: Harmonisation, device: torch.device):
        self.harmonisation, self.device = harmonisation, device
        self._size: tuple[int, int] | None = None

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        """Filter float crops (N, C, H, W), which are overwritten."""
        count, channels, height, width = crops.shape
        if self._size != (height, width):
            self._lay_out(height, width)
        mean = crops.mean(dim=(2, 3), keepdim=True)
        deviation = _deviation(crops.sub_(mean))
        crops /= deviation.clamp(min=BLANK)
        if count % 2:
            crops = torch.cat([crops, torch.zeros_like(crops[:1])])
        padded = F.pad(crops[..., *self._used], self._padding, mode="reflect")
        spectrum = torch.fft.fft2(torch.complex(*padded.chunk(2)))
        mixed = self._mix(spectrum)
        filtered = torch.fft.ifft2(mixed)
        parts = [part[..., *self._window] for part in (filtered.real, filtered.imag)]
        return _within_range(torch.cat(parts)[:count], mean, deviation)

    def _mix(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Apply the gains at each frequency that the result can hold."""
        channels = spectrum.shape[1]
        result = spectrum.new_zeros(*spectrum.shape[:2], *self._to_size)
        # As pairs of floats, since PyTorch multiplies complex by real tensors only after converting them.
        before, after = (torch.view_as_real(each).flatten(-2) for each in (spectrum, result))
        for block in self._blocks:
            for to in range(channels):
                place = after[:, to][..., *block]
                for of in range(channels):
                    gain = self._gains[max(to, of), min(to, of)][block]
                    place.addcmul_(before[:, of][..., *block], gain)
        return result

    def _lay_out(self, height: int, width: int) -> None:
        """Choose sizes of the transforms for crops of a size, and lay the gains out over their frequencies."""
        filter_ = self.harmonisation
        ratio = filter_.um_per_pixel / filter_.to_um_per_pixel
        axes = [transform_sizes(side, ratio) for side in (height, width)]
        self._used = _middle(height, axes[0][0]), _middle(width, axes[1][0])
        room = [max(size - side, 0) for side, (size, _) in zip((height, width), axes, strict=True)]
        self._padding = (room[1] // 2, room[1] - room[1] // 2, room[0] // 2, room[0] - room[0] // 2)
        self._to_size = tuple(to for _, to in axes)
        self._window = _middle(axes[0][1], height), _middle(axes[1][1], width)
        rows, columns = (_kept(*sizes) for sizes in axes)
        self._blocks = [
            (down, slice(across.start and 2 * across.start, across.stop and 2 * across.stop))
            for down in rows
            for across in columns
        ]
        frequencies = [np.fft.fftfreq(to, filter_.um_per_pixel * size / to) for size, to in axes]
        radius = np.hypot(frequencies[0][:, None], frequencies[1])
        middles = filter_.frequency
        channels = len(filter_.channels)
        self._gains = {}
        for to in range(channels):
            for of in range(to + 1):
                gain = np.interp(radius, middles, filter_.gain[:, to, of]).astype(np.float32)
                gain[0, 0] = 0  # the mean of a crop is kept apart
                self._gains[to, of] = torch.from_numpy(gain.repeat(2, axis=1)).to(self.device)
        self._size = (height, width)


def transform_sizes(side: int, ratio: float) -> tuple[int, int]:
    """Sizes of the transforms before and after, in pixels, for crops of `side` pixels.

    Parameters
    ----------
    side
        Side of the crops.
    ratio
        Size of a pixel before over its size after.

    Returns
    -------
    tuple of int
        The first covers what the result shows and a margin, the second as much of the sample in pixels of the
        other size, to `TOLERANCE`. Both have small prime factors where there are such.
    """
    least = round(side / ratio) + 2 * MARGIN
    same = abs(ratio - 1) < TOLERANCE
    sizes = [(size, size if same else round(size * ratio)) for size in range(least, 2 * least)]
    # The middle of a crop stays in the middle where what is added and taken away is even.
    even = [(size, to) for size, to in sizes if (size - side) % 2 == (to - side) % 2 == 0]
    fitting = [each for each in even if same or abs(each[1] / each[0] / ratio - 1) < TOLERANCE]
    return next((each for each in fitting if all(map(_is_fast, each))), fitting[0])


def _is_fast(size: int) -> bool:
    """Whether a Fourier transform of `size` is fast: libraries have code of their own for factors up to 13."""
    for prime in (2, 3, 5, 7, 11, 13):
        while size % prime == 0:
            size //= prime
    return size == 1


def _middle(whole: int, part: int) -> slice:
    """Slice of the middle `part` of an axis, or all of it."""
    start = max(0, (whole - part) // 2)
    return slice(start, start + min(part, whole))


def _kept(before: int, after: int) -> list[slice]:
    """Frequencies of an axis that transforms of both sizes have: all, or those from 0 up and those below 0."""
    if before == after:
        return [slice(None)]
    highest = (min(before, after) - 1) // 2
    return [slice(0, highest + 1), slice(-highest, None)]


def _deviation(crops: torch.Tensor) -> torch.Tensor:
    """Root mean square of each channel of each crop (N, C, 1, 1): the deviation where the mean is 0."""
    pixels = crops.shape[2] * crops.shape[3]
    return torch.linalg.vector_norm(crops, dim=(2, 3), keepdim=True) / pixels**0.5


def _within_range(crops: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """Give each channel a mean and deviation, or what lies nearest where 0 to 255 holds all of its pixels."""
    crops -= crops.mean(dim=(2, 3), keepdim=True)
    scale = deviation / _deviation(crops).clamp(min=torch.finfo(crops.dtype).tiny)
    low, high = crops.amin(dim=(2, 3), keepdim=True), crops.amax(dim=(2, 3), keepdim=True)
    scale = torch.minimum(scale, 255 / (high - low).clamp(min=torch.finfo(crops.dtype).tiny))
    mean = torch.minimum(torch.maximum(mean, -scale * low), 255 - scale * high)
    return crops.mul_(scale).add_(mean).clamp_(0, 255)  # of rounding, no more
