"""Write the tables of docs/real.md and benchmarks/results/real.json from the scores of benchmarks/real.py.

python tools/real_page.py
"""

import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "benchmarks")]

from coda.columns import ADAPTED, HELD_OUT  # noqa: E402
from study_summary import IN_DOMAIN, UNADAPTED  # noqa: E402
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
    """Share of the gap that each method closes: mean over seeds, one column a direction.

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
    return shares.T.groupby(level=["from", "to"]).mean().T


def gaps_table(closed: dict[str, pd.DataFrame]) -> list[str]:
    """Share of the gap that each method closes, by direction and run, as Markdown."""
    wide = pd.concat({SHORT[name]: table for name, table in closed.items()}, axis=1)
    wide = wide.drop(index=UNADAPTED)
    titles = [f"{run}: {lab} to {other}" for run, lab, other in wide]
    lines = [f"| method | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for method, row in wide.iterrows():
        cells = ["not run" if pd.isna(value) else f"{100 * value:.0f} %" for value in row]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def scores_table(scores: pd.DataFrame, split: str) -> list[str]:
    """Balanced accuracy with its interval over cells, by method and by direction and seed, as Markdown."""
    rows = scores[(scores["split"] == split) | scores["method"].str.endswith(IN_DOMAIN)]
    runs = list(rows[["from", "to", "seed"]].drop_duplicates().itertuples(index=False, name=None))
    words = [f"{lab} to {other}, seed {seed}" for lab, other, seed in runs]
    lines = [f"| method | {' | '.join(words)} |", "|---" * (len(words) + 1) + "|"]
    for method, mine in rows.groupby("method", sort=False):
        known = mine.set_index(["from", "to", "seed"])[["value", "low", "high"]]
        cells = [
            "{:.2f} ({:.2f} to {:.2f})".format(*known.loc[run]) if run in known.index else "not run"
            for run in runs
        ]
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
            tables += [f"### {title}, {cells}", "\n".join(scores_table(scores, split))]
        gaps[name] = closed = gap_closed(scores, HELD_OUT)
        for method, shares in closed.iterrows():
            for (lab, other), share in shares.dropna().items():
                aimed = (f">= {100 * GOAL:.0f}", share >= GOAL) if method != UNADAPTED else ()
                words = f"{title}, {lab} to {other}: {method}, gap closed"
                table.add(words, 100 * share, "%", *aimed)
    parts += ["### Share of the gap closed, held-out cells, mean over seeds"]
    parts += ["\n".join(gaps_table(gaps)), *tables]
    page.write_text("\n\n".join(parts) + "\n")
    table.finish()


if __name__ == "__main__":
    main()
