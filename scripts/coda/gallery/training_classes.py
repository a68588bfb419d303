"""Classes that a classifier is to learn, and whether the plates chosen to train it hold all of them."""

from typing import Any

import pandas as pd

from coda.columns import TRAIN
from coda.errors import UserError
from coda.gallery.labels import class_names
from coda.gallery.site_filter import is_chosen
from coda.gallery.site_index import plate_layout
from coda.logs import some


def expected_classes(compounds: pd.DataFrame, choose: dict[str, Any]) -> list[str]:
    """Classes of the table of compounds that the config's section ``choose`` keeps.

    None where it names wells or compounds: then only the crops tell which classes are left.
    """
    if choose["wells"] is not None or choose["compounds"] is not None:
        return []
    classes = class_names([compounds])
    return classes if choose["moas"] is None else [c for c in classes if c in choose["moas"]]


def check_training_classes(
    plates: pd.DataFrame,
    wells: pd.DataFrame,
    compounds: pd.DataFrame,
    choose: dict[str, Any],
    training: list[str],
) -> pd.DataFrame:
    """Refuse training plates whose layouts lack a class, before anything of them is fetched.

    Parameters
    ----------
    plates
        The plates that take part, with Metadata_Source, Metadata_Plate and subset.
    wells
        Metadata_Source, Metadata_Plate, Metadata_Well and Metadata_JCP2022 of the plates that train, at least.
    compounds
        As `coda.gallery.labels.label_compounds` gives them.
    choose
        The config's section of this name.
    training
        The training sources.

    Returns
    -------
    pandas.DataFrame
        One row a training source and class: Metadata_Source, Metadata_moa, ``compounds`` and ``wells`` (planned on the
        plates that train).

    Raises
    ------
    UserError
        If a training source's plates have no well of a class, or of two classes.
    """
    counts = [pd.DataFrame(columns=["Metadata_Source", "Metadata_moa", "compounds", "wells"])]
    choice = [choose[key] for key in ("wells", "compounds", "moas", "labelled")]
    for source in training:
        own = plates[(plates["Metadata_Source"] == source) & (plates["subset"] == TRAIN)]
        planned = pd.concat(
            [plate_layout(wells, compounds, source, plate) for plate in own["Metadata_Plate"]]
        )
        planned = planned[is_chosen(planned, *choice)]
        found = class_names([planned])
        absent = sorted({*expected_classes(compounds, choose)} - {*found})
        if absent:
            raise UserError(
                f"The training plates of {source} have no well of {len(absent)} of {len(absent) + len(found)} classes "
                f"({some(absent)}); choose other classes (choose.moas), take more plates (sources, exclude_plates), or "
                "correct their layouts."
            )
        if len(found) < 2:
            raise UserError(
                f"The choice of wells, compounds and mechanisms (choose) leaves {len(found)} class(es) on the training "
                f"plates of {source}, and a classifier needs two; widen it."
            )
        table = planned.groupby("Metadata_moa", as_index=False).agg(
            compounds=("Metadata_JCP2022", "nunique"), wells=("Metadata_Well", "size")
        )
        table.insert(0, "Metadata_Source", source)
        counts.append(table)
    return pd.concat(counts, ignore_index=True)
