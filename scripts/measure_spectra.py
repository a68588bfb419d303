"""Measure the spectra of a source's plates, by which images are harmonised."""

from coda.crops.harmonisation import bin_width, measure_spectra, save_spectra
from coda.crops.store import CropStore
from coda.logs import reported
from coda.progress import Progress

with reported(snakemake.log[0]):
    source, params = snakemake.wildcards.source, snakemake.params
    sizes = params.pixel_sizes
    progress = Progress(f"spectra of {source}", len(snakemake.input.crops), "plates")
    measured = []
    for path in snakemake.input.crops:
        store = CropStore([path])
        if store.settings["um_per_pixel"] is None:
            print(f"The pixel size of {source} is unknown; it counts as {sizes[source]:.4g} um.")
        spectra = measure_spectra(
            store,
            bin_width(list(sizes.values()), store.height),
            params.reference,
            snakemake.threads,
            sizes[source],
        )
        measured.append(spectra)
        progress.update()
    save_spectra(measured, snakemake.output.spectra)
