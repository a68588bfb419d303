"""Choose the compounds that an experiment lets a step see."""

import pandas as pd
from coda.evaluation.compound_splits import choose_compounds, choose_mechanisms
from coda.files import read_table, write_table
from coda.logs import reported

with reported(snakemake.log[0]):
    sites = pd.concat([read_table(path) for path in snakemake.input.quality])
    fit = sites.loc[sites["Quality_ok"], "Metadata_JCP2022"]
    labelled = sites[sites["Metadata_moa"].notna()].drop_duplicates("Metadata_JCP2022")
    labelled = labelled.assign(fit=labelled["Metadata_JCP2022"].isin(fit))
    seed = int(snakemake.wildcards.seed)
    if snakemake.wildcards.choice == "compounds":
        choice = choose_compounds(labelled, snakemake.params.share, seed)
    else:
        choice = choose_mechanisms(labelled, seed)
    counts = choice.groupby("role")[["Metadata_JCP2022", "Metadata_moa"]].nunique()
    print(f"{snakemake.wildcards.choice}: compounds and mechanisms by role\n{counts.to_string()}")
    write_table(choice, snakemake.output.choice)
