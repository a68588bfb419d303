import pandas as pd
from conftest import run_snakemake


def test_the_plan_counts_what_a_run_would_fetch_and_fetches_nothing(workdir, gallery):
    folder, config = workdir
    run_snakemake(folder, config, "plan")
    plan = pd.read_csv(folder / "results/plan.csv").set_index("Metadata_Source")
    images = [
        path
        for source, channels in (("source_5", "C0[12]"), ("source_3", "ch[54]"))
        for path in (gallery / f"cellpainting-gallery/cpg0016-jump/{source}/images").rglob(
            f"*{channels}*.tif*"
        )
    ]  # DNA and ER, by each source's own numbers
    assert plan.loc["all", "plates"] == 4
    assert plan.loc["all", "objects"] == len(images)
    assert plan.loc["all", "bytes"] == sum(path.stat().st_size for path in images)
    assert not (folder / "results/images").exists()
    assert "source_3" in (folder / "results/plan.txt").read_text()
