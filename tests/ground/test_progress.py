import coda.progress
from coda.progress import Progress, duration, track


def test_a_line_tells_done_facts_rate_and_time_left(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(coda.progress.time, "monotonic", lambda: now[0])
    progress = Progress("crops", total=40, unit="sites", every=10)
    now[0] += 5
    progress.update(5)
    assert capsys.readouterr().err == ""
    now[0] += 5
    progress.update(5, loss=1.23456)
    assert capsys.readouterr().err == "crops: 10/40 sites, loss 1.235, 1 sites/s, 30 s left\n"
    now[0] += 1
    progress.update(30)
    assert capsys.readouterr().err == "crops: 40/40 sites, 3.64 sites/s, took 11 s\n"


def test_work_done_before_does_not_count_for_the_rate(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(coda.progress.time, "monotonic", lambda: now[0])
    progress = Progress("train", total=100, unit="steps", done=80)
    now[0] += 10
    progress.update(10)
    assert "1 steps/s, 10 s left" in capsys.readouterr().err


def test_tracking_yields_everything(capsys):
    assert list(track(range(3), "work", 3, "items")) == [0, 1, 2]
    assert "3/3 items" in capsys.readouterr().err


def test_durations():
    assert [duration(s) for s in (0.4, 59.6, 200, 7500)] == [
        "0 s",
        "1 min 0 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
