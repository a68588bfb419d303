"""Measure the spectra of a source's plates, by which images are harmonised."""

from coda.crops.harmonisation import bin_width, load_spectra, measure_spectra, save_spectra
from coda.crops.store import CropStore
from coda.logs import reported
from coda.progress import Progress

with reported(snakemake.log[0]):
    source, params = snakemake.wildcards.source, snakemake.params
    sizes = params.pixel_sizes
    progress = Progress(f"spectra of {source}", len(snakemake.input.crops), "plates")
    # Spectra of a pack are compared with, so bins are theirs.
    like = snakemake.input.get("like")
    width = load_spectra(like)[0].width if like else None
    measured = []
    for path in snakemake.input.crops:
        store = CropStore([path])
        if store.settings["um_per_pixel"] is None:
            print(f"The pixel size of {source} is unknown; it counts as {sizes[source]:.4g} um.")
        spectra = measure_spectra(
            store,
            width or bin_width(list(sizes.values()), store.height),
            params.reference,
            snakemake.threads,
            sizes[source],
        )
        measured.append(spectra)
        progress.update()
    save_spectra(measured, snakemake.output.spectra)
