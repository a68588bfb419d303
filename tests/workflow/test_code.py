"""Code as a reason to run again, by the real Snakefile: what is computed counts, what is said of it does not."""

from collections.abc import Callable

import pytest
from workflow_run import copy_run, rules_of, run_snakemake


@pytest.fixture
def planned_after(finished, tmp_path) -> Callable[..., set[str]]:
    """Tell which rules a finished run would run again if files of the workflow said something else."""
    folder = copy_run(finished[0], tmp_path / "run")

    def plan(*changes: tuple[str, str, str]) -> set[str]:
        for name, old, new in changes:
            path = folder / name
            assert path.read_text().count(old) == 1
            path.write_text(path.read_text().replace(old, new))
        return rules_of(run_snakemake(folder, folder / "config/tiny.yaml", "--dry-run"))

    return plan


def test_other_words_run_nothing(planned_after):
    rules = planned_after(
        ("scripts/coda/training/dino.py", '"""DINO: ', '"""What DINO is: '),
        ("scripts/coda/progress.py", "min {seconds % 60} s", "min, {seconds % 60} s"),
        ("scripts/pretrain_foundation.py", "train a foundation", "make a foundation"),
    )
    assert rules == set()


def test_another_filter_harmonises_again_and_trains_no_foundation_again(planned_after):
    change = ("scripts/coda/crops/harmonisation.py", "RIDGE = 1e-4", "RIDGE = 1e-3")
    rules = planned_after(change)
    assert {"fit_harmonisation", "adapt_foundation", "predict_sites", "write_report"} <= rules
    assert rules.isdisjoint({"extract_crops", "pretrain_foundation", "train_classifier"})
    assert rules.isdisjoint({"train_supervised", "measure_tokens", "adapt_supervised"})


def test_another_constant_in_the_loss_trains_again(planned_after):
    old, new = "pairs = 2 * len(student) - 2", "pairs = 2 * len(student) - 1"
    rules = planned_after(("scripts/coda/training/dino.py", old, new))
    trained = {"pretrain_foundation", "adapt_foundation"}
    assert trained | {"train_classifier", "predict_sites", "score_source", "write_report"} <= rules
    assert rules.isdisjoint({"download_plate", "extract_crops", "train_supervised", "plot_crops"})
