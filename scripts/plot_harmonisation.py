"""Draw how a target's plates are harmonised: the filters over frequency, and images of both labs before and after."""

from coda.crops.harmonisation import load_harmonisations
from coda.crops.store import CropStore
from coda.figures.harmonisation import harmonisation_curves, shown_by_both, treatment_strips
from coda.figures.style import save_figure
from coda.logs import reported

with reported(snakemake.log[0]):
    given = snakemake.input
    plates = load_harmonisations(given.filters)
    target, training = CropStore([given.target]), CropStore([given.training])
    name = target.table["Metadata_Plate"].iloc[0]
    (plate,) = [each for each in plates if each.plate == name]
    drawings = {
        "harmonisation": harmonisation_curves(plates),
        "harmonised_crops": treatment_strips(
            target, training, plate, shown_by_both(target, training)
        ),
    }
    for kind, drawing in drawings.items():
        save_figure(drawing, snakemake.output[kind].removesuffix(".png"))
