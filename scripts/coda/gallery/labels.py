"""Labels: the mechanism of action of each compound of a platemap."""

import pandas as pd

from coda.errors import UserError
from coda.logs import some, tell, warn

UNLABELLED_CONTROLS = ("negcon", "poscon_cp")
# JUMP's ids of wells whose compound is not known, and of empty wells: neither is a compound.
PLACEHOLDERS = ("JCP2022_UNKNOWN", "JCP2022_999999")
BLOCK = 14  # letters of an InChIKey that encode the skeleton; the others encode stereochemistry and charge


def label_compounds(
    compounds: pd.DataFrame,
    platemap: pd.DataFrame,
    target_compounds: pd.DataFrame,
    drugs: pd.DataFrame,
    min_compounds: int = 2,
) -> pd.DataFrame:
    """Give each compound of a platemap its mechanism of action.

    The label is the whole ``moa`` string of the Repurposing Hub, joined by name without regard to
    case; mechanisms that differ in case, spaces or the order of their parts are one. It counts as a class
    if `min_compounds` names on the platemap share it. A name with several mechanisms has no label. Negative
    controls and the controls ``poscon_cp``, chosen for their strong effects, are not labelled.

    JUMP's ids are joined by InChIKey or, since the tables' keys have lost stereochemistry at
    different times, by its first 14 letters where the whole key is not found. Names that share an
    id (quinine and quinidine) share a row; it has a label if exactly one class is among theirs.

    Parameters
    ----------
    compounds
        Metadata_JCP2022, Metadata_InChIKey (JUMP's compound table).
    platemap
        well_position, broad_sample.
    target_compounds
        broad_sample, InChIKey, pert_iname, pert_type, control_type (JUMP-Target).
    drugs
        pert_iname, moa (Repurposing Hub).
    min_compounds
        How many compounds make a class.

    Returns
    -------
    pandas.DataFrame
        One row per Metadata_JCP2022, by id: Metadata_InChIKey (JUMP's), Metadata_pert_iname (several
        with ``|`` between), Metadata_pert_type (trt, negcon or poscon), Metadata_moa (missing where
        unlabelled). What could not be joined is counted and reported on standard error.

    Raises
    ------
    UserError
        If nothing can be joined or no class is left.
    """
    samples = samples_on_platemap(platemap, target_compounds)
    samples["moa"] = class_labels(samples, drugs, min_compounds)
    joined = join_ids(samples, compounds)
    table = joined.groupby("Metadata_JCP2022", as_index=False).agg(
        Metadata_InChIKey=("Metadata_InChIKey", "first"),
        Metadata_pert_iname=("pert_iname", lambda names: "|".join(sorted(set(names)))),
        Metadata_pert_type=("pert_type", "min"),  # negcon < poscon < trt: a control stays one
        Metadata_moa=("moa", sole),
    )
    several = joined[joined.groupby("Metadata_JCP2022")["name"].transform("nunique") > 1]
    for jcp, rows in several.groupby("Metadata_JCP2022"):
        label = sole(rows["moa"]) or "not labelled"
        tell(f"labels: {jcp} stands for {some(rows['pert_iname'])}; it is {label}")
    classes, labelled = table["Metadata_moa"].nunique(), table["Metadata_moa"].notna().sum()
    tell(f"labels: {classes} classes, {labelled} of {len(table)} compounds labelled")
    return table.astype("str")


def samples_on_platemap(platemap: pd.DataFrame, target_compounds: pd.DataFrame) -> pd.DataFrame:
    """Give the samples of a platemap and the negative control, one row each, and their kind."""
    planned = platemap["broad_sample"].dropna()
    # Wells with the solvent alone have no sample on the platemap.
    wanted = target_compounds["broad_sample"].isin(planned) | (
        target_compounds["control_type"] == "negcon"
    )
    # The table has a row per target, so there can be several per sample.
    samples = target_compounds[wanted].drop_duplicates(["broad_sample", "InChIKey"])
    lost = set(planned) - set(target_compounds["broad_sample"])
    if lost:
        tell(f"labels: {len(lost)} sample(s) are not in tables.target_compounds ({some(lost)})")
    if not samples["broad_sample"].isin(planned).any():
        raise UserError(
            "tables.platemap and tables.target_compounds have no broad_sample in common; "
            "check both addresses."
        )
    kind = samples["control_type"].where(samples["control_type"] == "negcon", "poscon")
    kind = kind.where(samples["pert_type"] == "control", "trt")
    return samples.assign(name=samples["pert_iname"].str.lower(), pert_type=kind)


def class_labels(samples: pd.DataFrame, drugs: pd.DataFrame, min_compounds: int) -> pd.Series:
    """Give each sample its class, missing where it has none."""
    candidates = samples[~samples["control_type"].isin(UNLABELLED_CONTROLS)]
    named = drugs["pert_iname"].str.lower().isin(candidates["name"])
    mechanisms, several = mechanisms_by_name(drugs[named])
    listed = {*mechanisms.index, *several}
    unknown = set(candidates["pert_iname"][~candidates["name"].isin(listed)])
    if unknown:
        tell(f"labels: {len(unknown)} compound(s) are not in tables.drugs ({some(unknown)})")
    torn = set(candidates["pert_iname"][candidates["name"].isin(several)])
    if torn:
        warn(
            f"labels: {len(torn)} compound(s) have several moa in tables.drugs and no label ({some(torn)})"
        )
    found = candidates["name"].map(mechanisms)
    blank = set(candidates["pert_iname"][found.isna()]) - unknown - torn
    if blank:
        tell(f"labels: {len(blank)} compound(s) have no moa in tables.drugs ({some(blank)})")
    sizes = candidates["name"].groupby(found).nunique()
    classes = sizes.index[sizes >= min_compounds]
    if classes.empty:
        raise UserError(
            f"No mechanism of action has {min_compounds} compounds on the platemap; "
            "lower labels.min_compounds or check tables.drugs."
        )
    small = len(sizes) - len(classes)
    tell(f"labels: {small} mechanism(s) with fewer than {min_compounds} compounds are no class")
    return found.where(found.isin(classes)).reindex(samples.index)


def mechanisms_by_name(drugs: pd.DataFrame) -> tuple[pd.Series, list[str]]:
    """Give the mechanism of each name in small letters, and the names that have several.

    Mechanisms that differ in case, spaces or the order of their parts are one, spelt as most rows do.
    """
    rows = drugs.dropna(subset="pert_iname").assign(
        name=lambda table: table["pert_iname"].str.lower(),
        key=drugs["moa"].map(mechanism_key, "ignore"),
    )
    known = rows.dropna(subset="key")
    spellings = known.groupby("key")["moa"].agg(lambda moas: moas.value_counts().index.tolist())
    for usual, *others in spellings:
        if others:
            warn(
                f"labels: {usual!r} is also written {some(map(repr, others))}; they count as one moa"
            )
    keys = known.groupby("name")["key"].agg(lambda found: sorted(set(found)))
    several = keys.index[keys.str.len() > 1]
    one = keys.drop(several).str[0].map(spellings.str[0])
    return one.reindex(rows["name"].drop_duplicates()).drop(several), [*several]


def mechanism_key(moa: str) -> str:
    """Give what spellings of a mechanism share: small letters, single spaces, its parts in order."""
    return "|".join(sorted(" ".join(part.split()) for part in moa.lower().split("|")))


def join_ids(samples: pd.DataFrame, compounds: pd.DataFrame) -> pd.DataFrame:
    """Join samples to JUMP's ids, one row per pair; by skeleton where the whole key is not found."""
    compounds = compounds[["Metadata_JCP2022", "Metadata_InChIKey"]].dropna()
    compounds = compounds[~compounds["Metadata_JCP2022"].isin(PLACEHOLDERS)]
    whole = samples.merge(compounds, left_on="InChIKey", right_on="Metadata_InChIKey")
    rest = samples[~samples["InChIKey"].isin(whole["InChIKey"])].dropna(subset="InChIKey")
    blocks = compounds.assign(block=compounds["Metadata_InChIKey"].str[:BLOCK])
    partly = rest.assign(block=rest["InChIKey"].str[:BLOCK]).merge(blocks, on="block")
    joined = pd.concat([whole, partly], ignore_index=True)
    if joined.empty:
        raise UserError(
            "tables.target_compounds and tables.compound have no InChIKey in common; "
            "check both addresses."
        )
    if len(partly):
        names = set(partly["pert_iname"])
        tell(f"labels: {len(names)} compound(s) are joined by {BLOCK} letters ({some(names)})")
    lost = set(samples["pert_iname"]) - set(joined["pert_iname"])
    if lost:
        tell(f"labels: {len(lost)} compound(s) have no id in tables.compound ({some(lost)})")
    return joined


def sole(labels: pd.Series) -> str | None:
    """Give the one label among `labels`, or None if there is none or more than one."""
    distinct = labels.dropna().unique()
    return distinct[0] if len(distinct) == 1 else None


def class_names(tables: list[pd.DataFrame]) -> list[str]:
    """Mechanisms of action that occur in the tables, in alphabetical order."""
    return sorted(set().union(*(table["Metadata_moa"].dropna().unique() for table in tables)))
