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


def test_all_methods_resolve_by_one_word(planned):
    rules = planned("methods=[all]")
    assert {"adapt_foundation", "adapt_supervised", "train_shuffled", "predict_probe"} <= rules
    assert {"predict_sites", "score_predictions", "plot_accuracy", "write_report"} <= rules
    assert "pretrain_foundation" in rules  # the oracle's
    assert rules.isdisjoint({"download_plate", "extract_crops", "train_supervised"})


def test_a_method_more_trains_only_what_it_needs(planned):
    more = "methods=[unadapted, coda, coda_aligned_means, coda_knn_sphered, unadapted_linear]"
    rules = planned(more)
    assert {"predict_sites", "predict_probe", "score_predictions"} <= rules
    assert rules.isdisjoint({"pretrain_foundation", "adapt_foundation", "train_classifier"})


def test_a_misspelt_method_is_refused_with_the_nearest_right_one(workdir):
    folder, config = workdir
    words = ["--config", "methods=[unadapted, coda_alignd]"]
    done = run_snakemake(folder, config, "--dry-run", *words, check=False)
    assert done.returncode != 0 and "did you mean coda_aligned" in done.stdout
