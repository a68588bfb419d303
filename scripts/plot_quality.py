"""Draw the quality of a source: the sites lost, and of each plate its measures, sites and illumination."""

from pathlib import Path

import pandas as pd
from coda.crops.illumination import Illumination
from coda.crops.store import CropStore
from coda.figures.plates import sites_lost
from coda.figures.quality import plot_illumination, plot_montage, plot_plate_maps
from coda.figures.style import save_figure
from coda.files import read_table
from coda.gallery.illumination_files import read_functions
from coda.logs import reported
from coda.parallel import spread
from coda.progress import track


def draw_plate(plates: list[str], number: int) -> None:
    """Draw one of the plates: three figures for the screen, mostly pixels."""
    given, params = snakemake.input, snakemake.params
    channels = len(params.channels)
    illumination = Illumination.load(given.illumination[number])
    files = given.functions[number * channels : (number + 1) * channels]
    functions = read_functions(files, illumination.size) or None
    drawings = {
        "measures": plot_plate_maps(read_table(given.quality[number]), params.channels),
        "sites": plot_montage(CropStore([given.crops[number]])),
        "illumination": plot_illumination(illumination, params.illumination, functions),
    }
    for name, drawing in drawings.items():
        stem = Path(snakemake.output.plates, f"{plates[number]}_{name}")
        save_figure(drawing, stem, dpi=150, vector=False)


with reported(snakemake.log[0]):
    quality = pd.concat([read_table(path) for path in snakemake.input.quality])
    save_figure(sites_lost(quality), snakemake.output.png.removesuffix(".png"))
    plates = snakemake.params.plates
    drawn = spread(draw_plate, range(len(plates)), plates, snakemake.threads)
    what = f"draw quality of {snakemake.wildcards.source}"
    for _ in track(drawn, what, len(plates), "plates"):
        pass
