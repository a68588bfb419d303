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


def gap_closed(scores: pd.DataFrame, split: str) -> pd.DataFrame:
    """Share of the gap that each method closes: mean over seeds, one column a direction."""
    keys = ["from", "to", "seed"]
    wide = scores[scores["split"] == split].pivot(index="method", columns=keys, values="value")
    home = scores[scores["method"] == IN_DOMAIN].set_index(keys)["value"]
    shares = (wide - wide.loc[UNADAPTED]) / (home[wide.columns] - wide.loc[UNADAPTED])
    shares = shares.drop(index=[IN_DOMAIN, f"ResNet, {IN_DOMAIN}"], errors="ignore")
    return shares.T.groupby(level=["from", "to"]).mean().T


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
    parts = [page.read_text().split(MARKER)[0].rstrip(), MARKER]
    table = Table("real")
    table.command = "python benchmarks/real.py FOLDER; python tools/real_page.py"
    for name, title in TITLES.items():
        path = RESULTS / f"{name}_scores.csv"
        if not path.exists():
            continue
        scores = pd.read_csv(path)
        for split, cells in ((HELD_OUT, "held-out cells"), (ADAPTED, "adapted cells")):
            parts += [f"### {title}, {cells}", "\n".join(scores_table(scores, split))]
        closed = gap_closed(scores, HELD_OUT)
        for method, shares in closed.iterrows():
            for (lab, other), share in shares.dropna().items():
                aimed = (f">= {100 * GOAL:.0f}", share >= GOAL) if method != UNADAPTED else ()
                words = f"{title}, {lab} to {other}: {method}, gap closed"
                table.add(words, 100 * share, "%", *aimed)
    page.write_text("\n\n".join(parts) + "\n")
    table.finish()


if __name__ == "__main__":
    main()
