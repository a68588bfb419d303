"""Write well profiles of every method, a file a plate."""

from coda.evaluation.well_profiles import export_profiles
from coda.logs import reported

with reported(snakemake.log[0]):
    export_profiles(list(snakemake.input.predictions), snakemake.output.profiles)
