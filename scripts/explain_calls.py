"""Say where the networks look on some crops of a pair, and what blanking a channel does to their calls."""

from coda.crops.store import CropStore
from coda.evaluation.attention import explain_pair
from coda.files import write_table
from coda.logs import reported
from coda.methods import BEFORE_AFTER
from coda.training.compute import Machine

with reported(snakemake.log[0]):
    given = snakemake.input
    table = explain_pair(
        CropStore(given.home),
        CropStore(given.target),
        dict(zip(BEFORE_AFTER, (given.before, given.after), strict=True)),
        given.classifier,
        snakemake.params.settings,
        Machine.given(snakemake.resources.gpu, snakemake.threads, snakemake.config["compute"]),
    )
    write_table(table, snakemake.output.explanations)
