"""Predict every site of a source, by all methods with networks."""

from coda.evaluation.predict import Pipeline, predict_sites
from coda.files import write_table
from coda.logs import reported
from coda.training.compute import Machine

with reported(snakemake.log[0]):
    given, params = snakemake.input, snakemake.params
    source = snakemake.wildcards.source
    target = snakemake.wildcards.get("target", source)
    groups = {"crops": {}, "held_out": {}}
    for name, method in params.methods.items():
        groups["held_out" if method["held_out_only"] else "crops"][name] = Pipeline(
            classifier=given[f"classifier_{name}"],
            foundation=given.get(f"foundation_{name}"),
            depth=method["depth"],
            alignment=method["alignment"],
            harmonised=method["harmonised"],
            plate_norms=method["plate_norms"],
        )
    for crops, pipelines in groups.items():
        predictions = predict_sites(
            crops=list(given.get(crops, [])),
            pipelines=pipelines,
            statistics=given.get("statistics"),
            settings=params.settings,
            machine=Machine.given(
                snakemake.resources.gpu, snakemake.threads, snakemake.config["compute"]
            ),
            what=f"predict {source} on {target}",
            choice=given.get("choice"),
            filters=given.get("filters"),
        )
        for name, table in predictions if pipelines else ():
            write_table(table, snakemake.output[name])
