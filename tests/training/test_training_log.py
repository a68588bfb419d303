import sys

import pandas as pd
import pytest
from coda.errors import UserError
from coda.training.settings import WatchSettings
from coda.training.training_log import TrainingLog, facts
from small_training import outputs_in, train

ROWS = [{"epoch": n, "step": 10 * n, "loss": 3.0 - n, "learning_rate": 0.1} for n in (1, 2, 3)]


def test_the_log_is_a_table_with_a_row_an_epoch(tmp_path):
    report = TrainingLog(str(tmp_path / "log.parquet"), WatchSettings())
    for count in (1, 2, 3):
        report(ROWS[:count])
        assert len(pd.read_parquet(tmp_path / "log.parquet")) == count
    assert list(tmp_path.iterdir()) == [tmp_path / "log.parquet"]


def events(folder) -> dict[str, list[tuple[int, float]]]:
    """Read events back with TensorBoard's own reader."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = accumulator.EventAccumulator(str(folder))
    reader.Reload()
    names = reader.Tags()["scalars"]
    return {
        name: [(e.step, pytest.approx(e.value)) for e in reader.Scalars(name)] for name in names
    }


def test_events_are_the_rows_of_the_log_also_after_a_new_start(tmp_path):
    pytest.importorskip("tensorboard")
    watch = WatchSettings(tensorboard=True, folder=tmp_path / "events")
    first = TrainingLog(str(tmp_path / "log.parquet"), watch)
    first(ROWS[:1])
    first(ROWS[:2])
    again = TrainingLog(str(tmp_path / "log.parquet"), watch)  # the first was killed
    again(ROWS)
    read = events(watch.folder)
    assert read == {
        name: [(r["epoch"], r[name]) for r in ROWS] for name in ("loss", "learning_rate")
    }


def test_a_training_writes_events_where_asked(tiny_plates, tmp_path):
    pytest.importorskip("tensorboard")
    watch = WatchSettings(tensorboard=True, folder=tmp_path / "events")
    train(tmp_path, tiny_plates, watch=watch)
    log = pd.read_parquet(outputs_in(tmp_path)["log"])
    read = events(watch.folder)
    assert set(read) == set(log.columns) - {"epoch", "step"}
    for name, values in read.items():
        assert values == list(log[["epoch", name]].itertuples(index=False, name=None)), name


def test_tensorboard_that_is_not_there_is_told_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        TrainingLog(str(tmp_path / "log.parquet"), WatchSettings(tensorboard=True))


def test_a_line_of_progress_says_what_is_watched():
    row = {"loss": 1.0, "teacher_entropy": 2.0, "centre_norm": 3.0, "feature_deviation": 4.0}
    row |= {"knn_accuracy": 0.5, "waiting_share": 0.1, "memory_gib": 1.5, "step": 7}
    told = {"loss": 1.0, "entropy": 2.0, "centre": 3.0, "spread": 4.0, "kNN": 0.5}
    assert facts(row) == told | {"waiting": 0.1, "GiB": 1.5}
