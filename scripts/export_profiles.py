"""Write well profiles of every method, a file a plate."""

from pathlib import Path

from coda.evaluation.well_profiles import export_profiles
from coda.logs import reported

with reported(snakemake.log[0]):
    runs = zip(snakemake.params.runs, snakemake.input.predictions, strict=True)
    predictions = {Path(run["method"], run["target_source"]): path for run, path in runs}
    export_profiles(predictions, snakemake.output.profiles)
