"""Say where the networks look on some crops of a pair, and what blanking a channel does to their calls."""

from coda.crops.harmonised_store import HarmonisedStore
from coda.crops.store import CropStore
from coda.evaluation.attention import explain_pair
from coda.files import write_table
from coda.logs import reported
from coda.training.compute import Machine

with reported(snakemake.log[0]):
    given = snakemake.input
    after, target = snakemake.params.after, CropStore(given.target)
    # The filters are there where the adapted foundation was trained on harmonised images.
    seen = HarmonisedStore(given.target, given.filters) if given.get("filters") else target
    table = explain_pair(
        CropStore(given.home),
        {"unadapted": (given.before, target), after: (given.after, seen)},
        given.classifier,
        snakemake.params.settings,
        Machine.given(snakemake.resources.gpu, snakemake.threads, snakemake.config["compute"]),
    )
    write_table(table, snakemake.output.explanations)
