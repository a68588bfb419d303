"""Draw the quality of one plate."""

from coda.files import read_table
from coda.illumination import Illumination
from coda.illumination_functions import read_functions
from coda.quality_figures import plot_illumination, plot_montage, plot_plate_maps
from coda.reporting import reported
from coda.store import CropStore
from coda.style import save_figure

with reported(snakemake.log[0]):
    illumination = Illumination.load(snakemake.input.illumination)
    functions = read_functions(snakemake.input.functions, illumination.size) or None
    drawings = {
        "measures": plot_plate_maps(read_table(snakemake.input.quality), snakemake.params.channels),
        "sites": plot_montage(CropStore([snakemake.input.crops])),
        "illumination": plot_illumination(illumination, snakemake.params.illumination, functions),
    }
    for name, drawing in drawings.items():
        # For the screen: three figures a plate, mostly pixels.
        save_figure(drawing, snakemake.output[name].removesuffix(".png"), dpi=150, vector=False)
