"""The model card: what a foundation is, where it comes from, and how to load it, beside its weights."""

import os
from typing import Any

import pandas as pd
import yaml

from coda.files import replacing
from coda.training.partners import Partners

CARD = """# {title}

A vision transformer (`{architecture}`) that maps crops of Cell Painting images, channels {channels}, to tokens.
{origin}
Weights: `{weights}`, the DINO teacher's backbone under timm's names. Its header holds all that stands here, as JSON.

## Data

{sites:,} crops in 8 bit, {pixel}, from:

{plates}

Partners for the DINO loss: {partners}.
{images} Checksums of all inputs stand in the header (`inputs`).

## Training

Seed {seed}, epoch {epoch} of {epochs}{chosen}; {precision} on {device}; code {code}.

```yaml
{settings}```

Software: {software}.

## Results known when this was written

{results}

How well a classifier does on these features, with intervals and beside the controls, stands in the workflow's
`metrics.csv` and report.

## Intended use and limits

For research: features of Cell Painting images made and cropped like those above, and adaptation to further labs. Not
for diagnosis, nor for any decision about people. Every view is standardised by its own mean and deviation, so absolute
intensity is lost. On plates of another lab the features shift, and a classifier trained on them loses accuracy until
they are adapted; what is adapted to one lab may serve others worse. Where all plates share one layout, as Target-2
plates do, a compound and its position cannot be told apart.

## Licence

The code of the workflow is under the MIT licence; images of JUMP-CP in the Cell Painting Gallery are CC0 1.0.
{start_licence}{label_licence}

## How to load it

```python
import timm
import torch

foundation = timm.create_model(
    {architecture!r}, checkpoint_path={weights!r}, in_chans={count}, img_size={size},
    num_classes=0, dynamic_img_size=True, **{options!r},
).eval()


def standardise(crops: torch.Tensor) -> torch.Tensor:
    \"\"\"Prepare 8-bit crops (N, {count}, {size}, {size}), channels as above.\"\"\"
    crops = crops.float() / 255
    centred = crops - crops.mean(dim=(2, 3), keepdim=True)
    return centred / (centred.square().mean(dim=(2, 3), keepdim=True).sqrt() + 1e-6)


def tokens(crops: torch.Tensor) -> torch.Tensor:
    \"\"\"All tokens, (N, 1 + patches, width); the first is the embedding of the image.\"\"\"
    with torch.inference_mode():
        return foundation.forward_features(standardise(crops))
```
"""


# Columns of the log that say nothing of the features.
LEFT_OUT = ("epoch", "step", "learning_rate", "samples_per_second", "waiting_share", "memory_gib")
START_LICENCE = (
    "It starts from timm's ImageNet weights of the same name, which have a licence of their own.\n"
)
LABEL_LICENCE = (
    "Mechanisms of action of the Drug Repurposing Hub, whose terms allow non-commercial use, chose "
    "the epoch of the training on the source and, with data.wells at labelled, the wells."
)


def describe_data(table: pd.DataFrame, partners: Partners, um_per_pixel: float) -> dict[str, Any]:
    """Describe the sites a training sees, for the header: sources with their plates, counts, partners."""
    by_source = table.groupby("Metadata_Source")["Metadata_Plate"]
    return {
        "plates": {source: sorted(plates.unique()) for source, plates in by_source},
        "sites": len(table),
        "partners": partners.describe(),
        "um_per_pixel": um_per_pixel,
    }


def write_card(path: str | os.PathLike, weights: str, header: dict[str, Any]) -> None:
    """Write the model card of the foundation in the file named `weights`, from its `header`."""
    settings, data, start = header["settings"], header["data"], header.get("start")
    model, um = settings["model"], data["um_per_pixel"]
    results = {name: value for name, value in header["results"].items() if name not in LEFT_OUT}
    by_labels = "knn_accuracy" in results
    text = CARD.format(
        title=f"Foundation: {header['what']}",
        architecture=model["architecture"],
        options=model["options"],
        channels=", ".join(header["channels"]),
        count=len(header["channels"]),
        size=settings["views"]["global_size"],
        weights=weights,
        origin=_origin(start, model["weights"]),
        sites=data["sites"],
        pixel=f"{um} um per pixel" if um else "pixel size not known",
        plates="\n".join(
            f"- {name}: {', '.join(plates)}" for name, plates in data["plates"].items()
        ),
        partners=data["partners"],
        images=header.get("images", ""),
        seed=header["seed"],
        epoch=header["epoch"],
        epochs=settings["training"]["epochs"],
        chosen=", the best by nearest neighbours on a labelled held-out plate" if by_labels else "",
        precision=header["precision"],
        device=header["device"],
        code=header["code"],
        settings=yaml.safe_dump(settings, sort_keys=False),
        software=", ".join(f"{name} {version}" for name, version in header["software"].items()),
        results="\n".join(f"- {name}: {value:.4g}" for name, value in results.items()),
        start_licence=START_LICENCE if model["weights"] == "imagenet" else "",
        label_licence=LABEL_LICENCE,
    )
    with replacing(path) as temporary:
        temporary.write_text(text)


def _origin(start: dict[str, Any] | None, weights: str) -> str:
    """Say what the training began with."""
    if start is None:
        begun = {"imagenet": "timm's ImageNet weights", "random": "random weights"}
        return f"Trained without labels, by DINO, from {begun.get(weights, weights)}."
    plates = "; ".join(
        f"{name} {', '.join(each)}" for name, each in start["data"]["plates"].items()
    )
    return (
        "Adapted without labels, by DINO, to the plates below, from a foundation of the same kind "
        f"trained on {plates} (epoch {start['epoch']})."
    )


def images_of(config: dict[str, Any]) -> str:
    """Say where the images of a run come from, by its whole config."""
    if "simulation" in config:
        return f"The images are simulated (simulation.seed {config['simulation']['seed']}): they show no real cell."
    return f"The images come from {config['gallery']['root']}."
