"""Selection of sites of a plate by the config's section `choose`."""

from collections.abc import Iterable

import pandas as pd

from coda.errors import UserError, did_you_mean
from coda.gallery.site_index import well_names
from coda.logs import some, tell
from coda.wells import FORMATS, well_place


def check_choice(
    wells: list[str] | None,
    compounds: list[str] | None,
    moas: list[str] | None,
    layout: pd.DataFrame,
    labels: pd.DataFrame,
) -> None:
    """Refuse unknown entries: if they were ignored, a misspelling would silently leave data out.

    Parameters
    ----------
    wells, compounds, moas
        See `choose_sites`.
    layout
        Metadata_Well and Metadata_JCP2022 of the plate. Wells that other plates may have and this
        one has not are reported on standard error.
    labels
        As `coda.gallery.labels.label_compounds` gives them.

    Raises
    ------
    UserError
        On an entry that is unknown, with the nearest known one.
    """
    if compounds:
        names = labels["Metadata_pert_iname"].dropna().str.split("|").explode()
        known = [*labels["Metadata_JCP2022"], *layout["Metadata_JCP2022"].dropna(), *names]
        lower_case = {name.lower() for name in known}
        for asked in compounds:
            if asked.lower() not in lower_case:
                raise _unknown("compounds", asked, known)
    if moas:
        known = set(labels["Metadata_moa"].dropna())
        for asked in moas:
            if asked not in known:
                raise _unknown("moas", asked, known)
    if wells is not None:
        asked = well_names(pd.Series(wells, dtype=str), "the choice of wells")
        for well in asked:
            if any(at >= most for at, most in zip(well_place(well), FORMATS[-1], strict=True)):
                raise UserError(f"choose.wells names {well}, but the largest plates end with AF48.")
        planned = well_names(layout["Metadata_Well"].reset_index(drop=True), "tables.well")
        if absent := set(asked) - set(planned):
            tell(f"choose.wells: this plate has no well {some(absent)}")


def _unknown(key: str, asked: str, known: Iterable[str]) -> UserError:
    hint = did_you_mean(asked, known, "; correct it or leave it out.")
    return UserError(f"choose.{key} names {asked}, which the tables do not hold{hint}")


def choose_sites(
    index: pd.DataFrame,
    wells: list[str] | None = None,
    compounds: list[str] | None = None,
    moas: list[str] | None = None,
    labelled: bool = False,
    sites_per_well: int | None = None,
) -> pd.DataFrame:
    """Choose sites of a plate; each choice left at its default chooses all.

    Parameters
    ----------
    index
        As from `index_plate`.
    wells
        Wells such as ``A01``.
    compounds
        JCP2022 ids or names; a compound with several names (``quinidine|quinine``) is meant by any.
    moas
        Mechanisms of action, each as a whole. A choice of compounds or mechanisms keeps the negative
        controls, with which plates are compared.
    labelled
        Whether to leave out sites without a mechanism of action, negative controls included.
    sites_per_well
        How many sites per well to keep, the lowest numbers first.

    Raises
    ------
    UserError
        If nothing is left.
    """
    choice = (wells, compounds, moas, labelled)
    chosen = index[is_chosen(index, *choice)]
    asked = is_chosen(index, *choice, with_controls=False)
    if sites_per_well is not None:
        chosen = (
            chosen.sort_values(["Metadata_Well", "Metadata_Site"])
            .groupby("Metadata_Well")
            .head(sites_per_well)
        )
    if not asked.any():
        plates = ", ".join((index["Metadata_Source"] + " " + index["Metadata_Plate"]).unique())
        raise UserError(
            f"The choice of wells, compounds and mechanisms (choose) leaves nothing of {plates}; "
            "widen it or leave the plate out (exclude_plates)."
        )
    return chosen.reset_index(drop=True)


def is_chosen(
    rows: pd.DataFrame,
    wells: list[str] | None,
    compounds: list[str] | None,
    moas: list[str] | None,
    labelled: bool,
    with_controls: bool = True,
) -> pd.Series:
    """Tell which rows of a plate's index or layout are of the wells chosen; see `choose_sites`.

    Without `with_controls`, negative controls count only if they are asked for by themselves.
    """
    keep = pd.Series(True, index=rows.index)
    controls = (rows["Metadata_pert_type"] == "negcon") & with_controls
    if wells is not None:
        keep &= rows["Metadata_Well"].isin(
            well_names(pd.Series(wells, dtype=str), "the choice of wells")
        )
    if compounds is not None:
        asked = {compound.lower() for compound in compounds}
        named = (
            rows["Metadata_pert_iname"]
            .fillna("")
            .str.lower()
            .map(lambda names: not asked.isdisjoint(names.split("|")))
            .astype(bool)
        )
        keep &= rows["Metadata_JCP2022"].str.lower().isin(asked) | named | controls
    if moas is not None:
        keep &= rows["Metadata_moa"].isin(moas) | controls
    if labelled:
        keep &= rows["Metadata_moa"].notna()
    return keep
