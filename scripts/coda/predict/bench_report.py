"""The page for the bench: calls to sort and filter, the cells of the surest, and maps of the plates."""

from collections.abc import Sequence
from pathlib import Path

import jinja2
import pandas as pd

from coda.crops.store import CropStore
from coda.files import replacing
from coda.predict.crop_panels import crop_panels
from coda.predict.plate_maps import OTHER, colours_of_calls, mixed, plate_maps

TEMPLATE = Path(__file__).with_name("bench_report.html.jinja")
TOP = 12  # compounds whose crops are shown
# Columns of the table: of calls, the heading on the page, decimals of numbers.
COLUMNS = {
    "Metadata_JCP2022": ("compound", None),
    "call": ("call", None),
    "probability_1": ("probability", 2),
    "moa_1": ("most probable", None),
    "set": ("mechanisms that fit", None),
    "abstains": ("why no call", None),
    "agreement": ("agreement", 2),
    "activity_p": ("activity p", 3),
    "novelty": ("novelty", 2),
    "nearest_compound": ("nearest known compound", None),
    "nearest_moa": ("its mechanism", None),
    "wells": ("wells", 0),
    "plates": ("plates", 0),
    "sites": ("sites", 0),
    "flagged_sites": ("flagged sites", 0),
    "lost_sites": ("lost sites", 0),
    "flags": ("what is wrong", None),
}
# What the page says of the columns by which calls are doubted.
EXPLAINED = {
    "agreement": "share of pairs of wells on different plates with the same most probable mechanism; 1 is best",
    "activity_p": "small where the compound's wells look more like each other than like negative controls; "
    "otherwise it may have no effect",
    "novelty": "near 1 where nothing in the training looked like this",
}
# Columns whose words take several lines.
LONG = ("set", "flags")


def unusable_sites(compounds: pd.DataFrame) -> list[str]:
    """Say so where most sites are of no use, as swapped channels make them, which calls alone do not show."""
    columns = ["sites", "flagged_sites", "lost_sites"]
    used, *others = compounds.reindex(columns=columns).fillna(0).sum()
    if sum(others) <= used:
        return []
    share = 100 * sum(others) / (used + sum(others))
    return [
        f"{share:.0f} % of the sites were flagged or lost (see what is wrong in the table). Plates are rarely that "
        "bad: check that no channels are swapped in sources.<source>.channels, and um_per_pixel."
    ]


def write_bench_report(
    path: str | Path,
    calls: pd.DataFrame,
    trust: pd.DataFrame,
    store: CropStore,
    thumbnails: pd.DataFrame,
    doubts: Sequence[str] = (),
) -> None:
    """Write the page, one file that needs no other and no network.

    Parameters
    ----------
    path
        The HTML file to make.
    calls
        As `coda.predict.calls.call_mechanisms` gives them.
    trust
        As `coda.predict.trust.trust` gives it.
    store
        Crops of all plates.
    thumbnails
        Small crops of the training source, from the pack.
    doubts
        What puts the calls in doubt, a sentence each.
    """
    compounds = calls[calls["level"] == "compound"].reset_index(drop=True)
    wells = calls[calls["level"] == "well"]
    called = compounds[compounds["call"] != ""]
    seen = compounds[compounds["probability_1"].notna()]
    # Those with a call first; where few have one, also the surest of those that abstain.
    surest = seen.sort_values("abstains", key=lambda why: why != "", kind="stable").iloc[:TOP]
    cards = [
        (row, crop_panels(row["Metadata_JCP2022"], row["nearest_compound"], store, thumbnails))
        for row in surest.to_dict("records")
    ]
    colours = colours_of_calls(wells)
    others = set(wells.loc[wells["Metadata_pert_type"] != "negcon", "call"]) - {"", *colours}
    legend = [*colours.items()] + ([("other calls", OTHER)] if others else [])
    columns = {name: told for name, told in COLUMNS.items() if says_anything(compounds, name)}
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page = environment.from_string(TEMPLATE.read_text()).render(
        headings=[heading for heading, _ in columns.values()],
        numeric=[decimals is not None for _, decimals in columns.values()],
        long=[name in LONG for name in columns],
        rounded=rounded,
        rows=[
            (row["call"] == "", [cell(row[name], told[1]) for name, told in columns.items()])
            for row in compounds.to_dict("records")
        ],
        compounds=len(compounds),
        called=len(called),
        coverage=compounds["coverage"].iloc[0] if len(compounds) else None,
        doubts=[*doubts, *unusable_sites(compounds)],
        explained=[(COLUMNS[name][0], told) for name, told in EXPLAINED.items() if name in columns],
        reason=trust.loc[trust["use"], "reason"].iloc[0],
        cards=cards,
        channels=store.channels,
        maps=plate_maps(wells),
        legend=legend,
        scale=[(f"{share:g}", mixed(share)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)],
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def says_anything(compounds: pd.DataFrame, name: str) -> bool:
    """Tell whether a column of calls is worth its place: it is there, not empty, and does not repeat the call."""
    if name not in compounds or (name == "moa_1" and (compounds["call"] == compounds[name]).all()):
        return False
    return bool((compounds[name].notna() & (compounds[name] != "")).any())


def cell(value: object, decimals: int | None) -> tuple[str, str]:
    """Give a value as it is shown, and as it is sorted and exported."""
    if value is None or pd.isna(value):
        return "", ""
    if decimals is None:
        return str(value), str(value)
    return rounded(value, decimals), f"{value:.6g}"


def rounded(value: float, decimals: int) -> str:
    """Write a number without rounding what is not quite 0 or 1 to certainty."""
    text, least = f"{value:.{decimals}f}", 10**-decimals
    if decimals and 0 < value < 1 and float(text) in (0, 1):
        return f"<{least:.{decimals}f}" if float(text) == 0 else f">{1 - least:.{decimals}f}"
    return text
