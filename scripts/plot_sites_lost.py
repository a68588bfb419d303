"""Draw the sites lost on the plates of a source."""

import pandas as pd
from coda.figures.plates import sites_lost
from coda.figures.style import save_figure
from coda.files import read_table
from coda.logs import reported

with reported(snakemake.log[0]):
    quality = pd.concat([read_table(path) for path in snakemake.input.quality])
    save_figure(sites_lost(quality), snakemake.output.png.removesuffix(".png"))
