"""Order and number of plates, and the length of trainings."""

import pytest
from coda.evaluation.experiments import in_batch_order, plate_counts, spread_over_batches, stretched
from hypothesis import given, settings
from hypothesis import strategies as st

BATCHES = st.lists(st.integers(1, 12), min_size=1, max_size=25)
SCHEDULE = {
    "epochs": 300,
    "warmup_epochs": 10,
    "teacher_temperature_epochs": 30,
    "frozen_epochs": 1,
    "batch_size": 128,
}


def named(batches):
    return [(f"Batch{batch}", f"P{number}") for number, batch in enumerate(batches)]


@settings(max_examples=40, deadline=None)
@given(BATCHES, st.randoms())
def test_any_first_plates_come_from_as_many_batches_as_they_can(batches, random):
    plates = named(batches)
    order = spread_over_batches(plates)
    assert sorted(order) == sorted(plate for _, plate in plates)
    batch_of = {plate: batch for batch, plate in plates}
    for count in range(1, len(order) + 1):
        found = [batch_of[plate] for plate in order[:count]]
        assert len(set(found)) == min(count, len(set(batches)))
        # No batch is a plate ahead of another that still has one.
        for batch in set(batch_of.values()):
            waiting = [plate for plate in order[count:] if batch_of[plate] == batch]
            assert not waiting or found.count(batch) >= max(map(found.count, found)) - 1
    random.shuffle(plates)
    assert spread_over_batches(plates) == order


@settings(max_examples=40, deadline=None)
@given(BATCHES)
def test_batches_follow_one_another_by_number(batches):
    plates = named(batches)
    order = in_batch_order(plates)
    batch_of = {plate: int(batch.removeprefix("Batch")) for batch, plate in plates}
    assert [batch_of[plate] for plate in order] == sorted(batches)  # Batch2 before Batch10


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.lists(st.integers(1, 30), min_size=1, unique=True))
def test_numbers_of_plates_grow_to_all_of_them(total, asked):
    counts = plate_counts(total, asked)
    assert counts == sorted(set(counts)) and counts[-1] == total
    assert set(counts[:-1]) == {count for count in asked if count < total}


def test_as_many_steps_as_all_plates_have_by_a_schedule_of_the_same_shape():
    assert stretched(SCHEDULE, 1) == SCHEDULE
    one = stretched(SCHEDULE, 24 / 1)
    assert one == {key: value * 24 for key, value in SCHEDULE.items() if key != "batch_size"} | {
        "batch_size": 128
    }


def test_a_few_epochs_still_warm_up():
    few = stretched(SCHEDULE, 20 / 300)
    assert few["epochs"] == 20 and few["teacher_temperature_epochs"] == 2
    assert few["warmup_epochs"] == few["frozen_epochs"] == 1
    none = stretched(SCHEDULE | {"warmup_epochs": 0}, 20 / 300)
    assert none["warmup_epochs"] == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.data())
def test_the_number_of_steps_hardly_changes(total, data):
    plates = data.draw(st.integers(1, total))
    epochs = stretched(SCHEDULE, total / plates)["epochs"]
    assert epochs * plates == pytest.approx(300 * total, abs=plates / 2)
