"""Settings as a reason to run again: what depends on a setting, and nothing else."""


def test_a_figure_setting_redraws_that_figure_only(planned):
    assert planned("figures={compounds: 1}") == {"plot_crops", "write_report", "write_crate", "all"}


def test_more_epochs_of_adaptation_spare_the_pretraining(planned):
    rules = planned("adapt={epochs: 3}")
    assert {"adapt_foundation", "predict_sites", "score_predictions", "write_report"} <= rules
    assert rules.isdisjoint(
        {
            "download_plate",
            "extract_crops",
            "pretrain_foundation",
            "train_classifier",
            "train_supervised",
        }
    )


def test_another_way_to_harmonise_spares_what_is_not_harmonised(planned):
    rules = planned("harmonise={cap: 2}")
    assert {"fit_harmonisation", "adapt_foundation", "predict_sites", "plot_harmonisation"} <= rules
    assert rules.isdisjoint({"measure_spectra", "pretrain_foundation", "train_classifier"})
    assert "measure_spectra" in planned("harmonise={reference: shrunken}")


def test_how_to_fetch_watch_and_compile_changes_nothing_that_was_fetched_or_trained(planned):
    fetch = "gallery={workers: 4, attempts: 2, max_lost: 0.5}"
    watch = "watch={save_minutes: 1, patience: 3, tensorboard: true}"
    compute = "compute={compile: false, checkpoint_activations: true, gpus: 2, threads: 1}"
    # Report and provenance are written again, since they show the settings.
    assert planned(fetch, watch, compute) == {"write_report", "write_crate", "all"}


def test_local_views_are_no_matter_of_classifiers(planned):
    rules = planned("views={local_count: 4}")
    assert {"pretrain_foundation", "train_classifier"} <= rules
    assert "train_supervised" not in rules


def test_another_precision_trains_again(planned):
    assert {"pretrain_foundation", "train_supervised"} <= planned("compute={precision: fp32}")


def test_another_classifier_spares_the_foundations(planned):
    rules = planned("classify={epochs: 3}", "methods=[unadapted, oda, coda]")
    assert "train_classifier" in rules
    assert rules.isdisjoint({"pretrain_foundation", "adapt_foundation", "train_supervised"})
    # A consensus is that of the task model.
    rules = planned("classify={epochs: 3}")
    assert "adapt_foundation" in rules and "pretrain_foundation" not in rules
