"""Write the tables of docs/real.md and benchmarks/results/real.json from the scores of benchmarks/real.py.

python tools/real_page.py
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "benchmarks")]

from coda.columns import ADAPTED, HELD_OUT  # noqa: E402
from study_summary import IN_DOMAIN, UNADAPTED, mean_and_interval  # noqa: E402
from table import RESULTS, Table  # noqa: E402

MARKER = "<!-- Below: written by tools/real_page.py. -->"
GOAL = 0.8
TITLES = {
    "real": "Images as they are",
    "real_contrast": "Local contrast enhanced in both labs",
    "real_second": "Second run, images as they are",
    "real_contrast_second": "Second run, local contrast enhanced in both labs",
}
SHORT = {
    "real": "as they are",
    "real_contrast": "contrast",
    "real_second": "second run",
    "real_contrast_second": "second run, contrast",
}
OWN_GAP = "of the ResNet's gap"


def gap_closed(scores: pd.DataFrame, split: str) -> pd.DataFrame:
    """Share of the gap that each method closes, one column a direction and seed.

    The gap is that between the unadapted pipeline and the pipeline in domain; methods with a ResNet have a second row,
    by the same gap of the ResNet.
    """
    keys = ["from", "to", "seed"]
    wide = scores[scores["split"] == split].pivot(index="method", columns=keys, values="value")
    homes = scores[scores["split"] == HELD_OUT].set_index(["method", *keys])["value"]

    def share(methods: list[str], before: str, home: str) -> pd.DataFrame:
        start, end = wide.loc[before], homes[home].reindex(wide.columns)
        return (wide.loc[methods] - start) / (end - start)

    named = [name for name in scores["method"].unique() if not name.endswith(IN_DOMAIN)]
    shares = share(named, UNADAPTED, IN_DOMAIN)
    ours = [name for name in named if name.startswith(("ResNet, ", "AdaBN"))]
    if ours:
        own = share(ours, "ResNet", f"ResNet, {IN_DOMAIN}")
        shares = pd.concat([shares, own.rename(index=lambda name: f"{name}, {OWN_GAP}")])
    return shares


def gaps_table(closed: dict[str, pd.DataFrame]) -> list[str]:
    """Share of the gap that each method closes, by direction and run, as Markdown."""
    wide = pd.concat({SHORT[name]: table for name, table in closed.items()}, axis=1)
    wide = wide.drop(index=UNADAPTED)
    runs = wide.T.groupby(level=[0, "from", "to"], sort=False)
    titles = [f"{run}: {lab} to {other}" for run, lab, other in runs.groups]
    lines = [f"| method | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for method in wide.index:
        cells = [over_seeds(100 * shares[method].to_numpy(float), "{:.0f} %") for _, shares in runs]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def over_seeds(values: np.ndarray, form: str) -> str:
    """Write the mean over seeds, with its 95 % interval (Student's t) where there are several."""
    values = values[~np.isnan(values)]
    if not len(values):
        return "not run"
    mean, low, high = mean_and_interval(values)
    if np.isnan(low):
        return form.format(mean)
    return f"{form.format(mean)} ({form.format(low).removesuffix(' %')} to {form.format(high).removesuffix(' %')})"


def scores_table(scores: pd.DataFrame, split: str) -> list[str]:
    """Balanced accuracy by method and direction, as Markdown.

    With its interval over seeds, or, of a single seed, over cells.
    """
    rows = scores[(scores["split"] == split) | scores["method"].str.endswith(IN_DOMAIN)]
    runs = list(rows[["from", "to"]].drop_duplicates().itertuples(index=False, name=None))
    words = [f"{lab} to {other}" for lab, other in runs]
    lines = [f"| method | {' | '.join(words)} |", "|---" * (len(words) + 1) + "|"]
    for method, mine in rows.groupby("method", sort=False):
        cells = []
        for lab, other in runs:
            known = mine[(mine["from"] == lab) & (mine["to"] == other)]
            if len(known) == 1:
                ends = known.iloc[0][["value", "low", "high"]]
                cells.append("{:.2f} ({:.2f} to {:.2f})".format(*ends))
            else:
                cells.append(over_seeds(known["value"].to_numpy(float), "{:.2f}"))
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Write the generated part of the page below its marker, and the rows."""
    page = ROOT / "docs/real.md"
    parts, tables, gaps = [page.read_text().split(MARKER)[0].rstrip(), MARKER], [], {}
    table = Table("real")
    table.command = "python benchmarks/real.py FOLDER; python tools/real_page.py"
    for name, title in TITLES.items():
        path = RESULTS / f"{name}_scores.csv"
        if not path.exists():
            continue
        scores = pd.read_csv(path)
        for split, cells in ((HELD_OUT, "held-out cells"), (ADAPTED, "adapted cells")):
            seeds = scores["seed"].nunique()
            over = f"mean of {seeds} seeds" if seeds > 1 else f"seed {scores['seed'].iloc[0]}"
            tables += [f"### {title}, {cells}, {over}", "\n".join(scores_table(scores, split))]
        gaps[name] = closed = gap_closed(scores, HELD_OUT)
        means = closed.T.groupby(level=["from", "to"]).mean().T
        for method, shares in means.iterrows():
            for (lab, other), share in shares.dropna().items():
                aimed = (f">= {100 * GOAL:.0f}", share >= GOAL) if method != UNADAPTED else ()
                words = f"{title}, {lab} to {other}: {method}, gap closed"
                table.add(words, 100 * share, "%", *aimed)
    parts += ["### Share of the gap closed, held-out cells, mean and interval over seeds"]
    parts += ["\n".join(gaps_table(gaps)), *tables]
    page.write_text("\n\n".join(parts) + "\n")
    table.finish()


if __name__ == "__main__":
    main()
