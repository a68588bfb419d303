"""Call the mechanisms of the plates, and say how far to believe that."""

import pandas as pd
from coda.evaluation.units import read_predictions
from coda.files import read_table, write_table
from coda.logs import reported
from coda.predict.calls import call_mechanisms
from coda.predict.trust import trust

with reported(snakemake.log[0]):
    given = snakemake.input
    params = snakemake.params

    def predicted(method: str, embeddings: bool) -> pd.DataFrame:
        """Give the predictions of all targets by a method."""
        tables = [read_predictions(path, embeddings) for path in given[method]]
        return pd.concat(tables, ignore_index=True)

    calibration = read_predictions(given.calibration, embeddings=True)
    believed = trust({name: predicted(name, False) for name in params.methods}, calibration)
    chosen = believed.loc[believed["use"], "method"].iat[0]
    print(believed["reason"].iat[0])
    calls = call_mechanisms(
        predicted(chosen, True),
        calibration,
        pd.read_parquet(given.compounds),
        params.coverage,
        pd.concat([read_table(path) for path in given.quality], ignore_index=True),
    ).assign(method=chosen)
    write_table(calls, snakemake.output.table)
    write_table(calls, snakemake.output.text)
    write_table(believed, snakemake.output.trust)
