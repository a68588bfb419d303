"""Step 4: predict every site of a source."""

from coda.evaluation.predict import predict_sites
from coda.files import write_table
from coda.logs import reported
from coda.methods import ALIGNMENTS, METHODS
from coda.training.compute import Machine

with reported(snakemake.log[0]):
    source, target, method = (snakemake.wildcards[name] for name in ("source", "target", "method"))
    treatment = METHODS[method].treatment
    experiment = snakemake.wildcards.get("experiment", "standard")
    predictions = predict_sites(
        crops=list(snakemake.input.crops),
        classifier=snakemake.input.classifier,
        foundation=snakemake.input.get("foundation") or None,
        alignment=treatment if treatment in ALIGNMENTS else None,
        statistics=snakemake.input.get("statistics") or None,
        settings=snakemake.params.settings,
        machine=Machine.given(
            snakemake.resources.gpu, snakemake.threads, snakemake.config["compute"]
        ),
        what=f"predict {source} on {target} ({method}, {experiment})",
        choice=snakemake.input.get("choice") or None,
    )
    write_table(predictions, snakemake.output.predictions)
