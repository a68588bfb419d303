"""Say what a run would download."""

import pandas as pd
from coda.files import read_table, replacing, write_table
from coda.gallery.doses import check_doses
from coda.gallery.open import open_gallery
from coda.gallery.plan import COUNTS, SIZES, Wanted, format_plan, plan_download
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
    # Crops that were cut elsewhere are read where they lie.
    fetched = [
        (galleries[root], index)
        for root, index in zip(snakemake.params.roots, indexes, strict=True)
        if index["Metadata_Source"].iloc[0] not in snakemake.params.ready
    ]
    channels = snakemake.params.wanted["channels"]
    described = [
        describe_plate(index, channels)
        for index, own in zip(indexes, snakemake.params.own, strict=True)
        if own
    ]
    described += [f"Note: {told}" for told in check_doses(pd.concat(indexes))["message"]]
    plan = pd.DataFrame(columns=["Metadata_Source", *COUNTS, *SIZES, "peak_bytes"])
    if fetched:
        plan = plan_download(
            [gallery for gallery, _ in fetched],
            pd.concat([index[names].iloc[:1] for _, index in fetched], ignore_index=True),
            [index for _, index in fetched],
            Wanted(**snakemake.params.wanted),
        )
        described.append(format_plan(plan))
    write_table(plan, snakemake.output.plan)
    text = "\n\n".join(described)
    with replacing(snakemake.output.text) as temporary:
        temporary.write_text(text)
    print(text)
