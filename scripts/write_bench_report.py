"""Write the page of calls for the bench."""

import pandas as pd
from coda.crops.store import CropStore
from coda.files import read_table
from coda.logs import reported
from coda.predict.bench_report import write_bench_report
from coda.report.input_notes import doubts

with reported(snakemake.log[0]):
    write_bench_report(
        snakemake.output.page,
        pd.read_parquet(snakemake.input.calls),
        pd.read_csv(snakemake.input.trust),
        CropStore(snakemake.input.crops),
        pd.read_parquet(snakemake.input.thumbnails),
        doubts(read_table(snakemake.input.warnings)),
    )
