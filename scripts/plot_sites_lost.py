"""Draw the sites lost on the plates of a source."""

import pandas as pd
from coda.figures_plates import sites_lost
from coda.files import read_table
from coda.reporting import reported
from coda.style import save_figure

with reported(snakemake.log[0]):
    quality = pd.concat([read_table(path) for path in snakemake.input.quality])
    save_figure(sites_lost(quality), snakemake.output.png.removesuffix(".png"))
