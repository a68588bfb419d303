"""Predictions with known skill, and embeddings and whole studies made of them."""

import numpy as np
import pandas as pd
from coda.files import write_table


def make_predictions(seed=0, classes=4, compounds=3, plates=("P1", "P2"), sites=3, skill=1.0):
    """Logits with a known lean to the truth, every compound once a plate, and two DMSO wells."""
    random = np.random.default_rng(seed)
    rows = []
    for plate in plates:
        for compound in range(classes * compounds):
            rows += [
                (plate, f"A{compound + 1:02d}", site, f"JCP_{compound}", compound // compounds)
                for site in range(sites)
            ]
        rows += [
            (plate, f"B{well:02d}", site, "JCP_DMSO", -1)
            for well in (1, 2)
            for site in range(sites)
        ]
    table = pd.DataFrame(
        rows,
        columns=["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_JCP2022", "label"],
    )
    logits = random.normal(size=(len(table), classes))
    known = table["label"] >= 0
    logits[known, table.loc[known, "label"]] += skill
    table.insert(0, "Metadata_Source", "source_1")
    table["Metadata_moa"] = [f"moa {label}" if label >= 0 else None for label in table.pop("label")]
    for index in range(classes):
        table[f"Logit_moa {index}"] = logits[:, index].astype(np.float32)
    return table


def with_embeddings(table, size=12, signal=4.0, seed=0):
    """Embeddings around one centre a mechanism of action, DMSO at the origin."""
    random = np.random.default_rng(seed)
    label = table["Metadata_moa"].fillna("moa -1").str[4:].astype(int).to_numpy()
    centres = np.vstack([np.random.default_rng(9).normal(size=(8, size)) * signal, np.zeros(size)])
    noise = random.normal(size=(len(table), size))
    dmso = table["Metadata_JCP2022"] == "JCP_DMSO"
    return table.assign(
        Metadata_Batch="b1",
        Metadata_pert_type=np.where(dmso, "negcon", "trt"),
        Embedding=list((centres[label] + noise).astype(np.float32)),
    )


def write_predictions(folder, number, source, plates, path, skill):
    table = make_predictions(number, compounds=4, plates=plates, skill=skill)
    write_table(table.assign(Metadata_Source=source), folder / path)
    return str(folder / path)


SOURCES = ("source_1", "source_2")
SKILL = {"in_domain": 3.0, "unadapted": 1.0, "oda": 1.6, "coda": 2.0, "intensity": 1.0}


def write_world(folder, seeds=(0,), skill=SKILL, sources=SOURCES):
    """Two sources, each with two train plates and a validation plate; both directions, all methods."""
    names = [f"{source}-P{number}" for source in sources for number in (1, 2, 3)]
    plates = pd.DataFrame({"Metadata_Source": np.repeat(sources, 3), "Metadata_Plate": names})
    plates["subset"] = ["train", "train", "validation"] * len(sources)
    files = []
    for train in sources:
        for target in sources:
            for seed in seeds:
                for method in (
                    ("unadapted", "intensity")
                    if train == target
                    else ("unadapted", "oda", "coda", "intensity")
                ):
                    at_home = train == target and method == "unadapted"
                    mine = tuple(plates.loc[plates["Metadata_Source"] == target, "Metadata_Plate"])
                    table = make_predictions(
                        len(files),
                        compounds=6,
                        plates=mine,
                        skill=skill["in_domain" if at_home else method],
                    )
                    path = folder / train / f"seed_{seed}" / method / f"{target}.parquet"
                    write_table(table.assign(Metadata_Source=target), path)
                    ids = {
                        "train_source": train,
                        "target_source": target,
                        "seed": seed,
                        "method": method,
                    }
                    files.append({**ids, "path": str(path)})
    return files, plates
