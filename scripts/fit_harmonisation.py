"""Find the filters that give a target's plates the spectra of the training source's."""

import numpy as np
from coda.crops.harmonisation import (
    describe_reference,
    harmonise,
    load_spectra,
    save_harmonisations,
)
from coda.files import read_table
from coda.logs import reported

with reported(snakemake.log[0]):
    given, chosen = snakemake.params.settings, read_table(snakemake.input.plates)
    trained = set(chosen.loc[chosen["subset"] == "train", "Metadata_Plate"])
    training = load_spectra(snakemake.input.training)
    if snakemake.wildcards.source in set(
        chosen["Metadata_Source"]
    ):  # else a pack's, which holds no others
        training = [each for each in training if each.plate in trained]
    # At home, the held-out plate: those that train are what it is compared with.
    plates = [
        each
        for each in load_spectra(snakemake.input.target)
        if (each.source, each.plate) not in {(one.source, one.plate) for one in training}
    ]
    found = [harmonise(plate, training, **given) for plate in plates]
    for each in found:
        print(
            f"{each.plate}: by {describe_reference(each)}; {each.strength:.0%} of the difference undone, "
            f"gains up to {np.linalg.eigvalsh(each.gain).max():.2f}"
        )
        if each.weight == 0 and given["reference"] != "all":
            print(f"{each.plate}: too few control wells, here or in the training source")
    save_harmonisations(found, snakemake.output.filters)
