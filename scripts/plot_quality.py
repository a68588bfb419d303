"""Draw the quality of one plate."""

from coda.crops.illumination import Illumination
from coda.crops.store import CropStore
from coda.figures.quality import plot_illumination, plot_montage, plot_plate_maps
from coda.figures.style import save_figure
from coda.files import read_table
from coda.gallery.illumination_files import read_functions
from coda.logs import reported

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
