"""Say what a run would download."""

import pandas as pd
from coda.files import read_table, replacing, write_table
from coda.gallery.open import open_gallery
from coda.gallery.plan import Wanted, format_plan, plan_download
from coda.gallery.shared_images import check_plates
from coda.gallery.understood import describe_plate
from coda.logs import reported

with reported(snakemake.log[0]):
    indexes = [read_table(path) for path in snakemake.input.indexes]
    check_plates(indexes, snakemake.params.roots)
    names = ["Metadata_Source", "Metadata_Plate"]
    galleries = {
        root: open_gallery(root, **snakemake.params.gallery) for root in {*snakemake.params.roots}
    }
    plan = plan_download(
        [galleries[root] for root in snakemake.params.roots],
        pd.concat([index[names].iloc[:1] for index in indexes], ignore_index=True),
        indexes,
        Wanted(**snakemake.params.wanted),
    )
    write_table(plan, snakemake.output.plan)
    channels = snakemake.params.wanted["channels"]
    described = [
        describe_plate(index, channels)
        for index, own in zip(indexes, snakemake.params.own, strict=True)
        if own
    ]
    text = "\n\n".join([*described, format_plan(plan)])
    with replacing(snakemake.output.text) as temporary:
        temporary.write_text(text)
    print(text)
