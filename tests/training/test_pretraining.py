import platform

import numpy as np
import pandas as pd
import pytest
import torch
from coda.errors import UserError
from coda.training.checkpoints import read_header, unprefixed
from coda.training.compute import Compute, has_bf16
from coda.training.distributed import run_ranks
from coda.training.trainer import Trainer
from safetensors.torch import load_file, save_file
from small_training import (
    OFTEN,
    SETTINGS,
    batches,
    finish_training,
    make_training,
    outputs_in,
    settings_with,
    train,
)

CPU = torch.device("cpu")


def equal(one: str, two: str) -> bool:
    first, second = load_file(one), load_file(two)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def take_steps(training: Trainer, count: int) -> list[float]:
    losses = []
    for (sites, draws), _ in zip(batches(training), range(count), strict=False):
        training.learner.train_step(sites, draws)
        losses.append(training.learner.means.take()["loss"])
    return losses


@pytest.fixture(scope="module")
def trained(tiny_plates, tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("trained")
    train(folder, tiny_plates, watch=OFTEN)
    return outputs_in(folder)


def test_two_runs_are_equal_bit_for_bit(trained, tiny_plates, tmp_path):
    train(tmp_path, tiny_plates, watch=OFTEN)
    assert equal(trained["networks"], outputs_in(tmp_path)["networks"])
    columns = ["loss", "teacher_entropy", "feature_deviation", "knn_accuracy", "centre_norm"]
    logs = [
        pd.read_parquet(path)[columns] for path in (trained["log"], outputs_in(tmp_path)["log"])
    ]
    pd.testing.assert_frame_equal(*logs)


def test_another_seed_gives_other_weights(trained, tiny_plates, tmp_path):
    train(tmp_path, tiny_plates, watch=OFTEN, seed=4)
    assert not equal(trained["foundation"], outputs_in(tmp_path)["foundation"])


def test_weights_say_where_they_come_from(trained, tiny_plates):
    header = read_header(trained["foundation"])
    assert header["seed"] == 3 and header["settings"]["training"]["batch_size"] == 8
    assert set(header["inputs"]) == set(tiny_plates)
    assert header["channels"] == ["DNA", "ER"] and header["software"]["timm"]
    native = has_bf16(torch.device("cpu"))
    assert header["precision"] == ("bf16" if native else "fp32")
    assert header["device"].startswith("CPU")


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variables are those of x86")
def test_a_processor_with_avx2_alone_trains_in_float32(tiny_plates, tmp_path):
    said = finish_training(
        tmp_path, tiny_plates, ONEDNN_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="avx2"
    )
    assert "threads), fp32 (auto)" in said
    assert read_header(outputs_in(tmp_path)["foundation"])["precision"] == "fp32"


def test_the_file_of_weights_to_start_from_is_an_input_like_any_other(
    trained, tiny_plates, tmp_path
):
    path = tmp_path / "start.safetensors"
    settings = settings_with(epochs=1)
    settings["model"] = {**settings["model"], "weights": str(path)}
    checksums = []
    for factor in (1.0, 2.0):
        tensors = {name: factor * each for name, each in load_file(trained["foundation"]).items()}
        save_file(tensors, path)
        train(tmp_path, tiny_plates, settings)
        inputs = read_header(outputs_in(tmp_path)["foundation"])["inputs"]
        assert inputs.keys() == {str(path), *tiny_plates}
        checksums.append(inputs[str(path)])
    assert checksums[0] != checksums[1]


def test_the_log_has_all_that_is_watched(trained):
    log = pd.read_parquet(trained["log"])
    watched = ["loss", "teacher_entropy", "feature_deviation", "centre_norm", "learning_rate"]
    watched += ["knn_accuracy", "samples_per_second", "waiting_share", "memory_gib"]
    assert set(watched) <= set(log.columns) and np.isfinite(log[watched]).all(axis=None)
    assert log["waiting_share"].between(0, 1).all() and (log["memory_gib"] > 0.05).all()


def test_a_class_without_a_good_site_is_named_before_the_training(tiny_plates, tmp_path):
    with pytest.raises(UserError, match=r"source_1 have no site.*1 of 5 classes \(kinase\)"):
        train(tmp_path, tiny_plates, classes=["kinase", "moa 1"])


def test_views_that_do_not_fit_are_told_before_the_training(tiny_plates, tmp_path):
    for size, words in ((64, "larger than the crops"), (28, "patches of 8.*make it 24 or 32")):
        settings = {**SETTINGS, "views": {**SETTINGS["views"], "global_size": size}}
        with pytest.raises(UserError, match=f"views.global_size is {size} pixels.*{words}"):
            train(tmp_path, tiny_plates, settings)


def test_the_foundation_is_the_teachers_backbone(trained):
    teacher = unprefixed("teacher.foundation", load_file(trained["networks"]))
    foundation = load_file(trained["foundation"])
    assert teacher.keys() == foundation.keys()
    assert all(torch.equal(teacher[k], foundation[k]) for k in teacher)


def test_the_best_epoch_by_validation_is_kept(trained):
    log = pd.read_parquet(trained["log"])
    best = log.loc[log["knn_accuracy"].idxmax(), "epoch"]
    assert read_header(trained["foundation"])["epoch"] == best


def test_adaptation_starts_from_student_teacher_heads_and_centre(trained, tiny_plates):
    start = load_file(trained["networks"])
    learner = make_training(tiny_plates, start=start).learner
    for name, tensor in learner.tensors().items():
        assert torch.equal(tensor, start[name]), name
    assert start["centre"].abs().sum() > 0


def test_adaptation_keeps_the_last_epoch_and_looks_at_no_label(
    trained, tiny_plates, tmp_path, monkeypatch
):
    import coda.training.pretrain

    def never(*_, **__):
        raise AssertionError("labels were asked for")

    monkeypatch.setattr(coda.training.pretrain, "labelled_rows", never)
    monkeypatch.setattr(coda.training.pretrain, "class_names", never)
    outputs = {name: path for name, path in outputs_in(tmp_path).items() if name != "networks"}
    train(tmp_path, tiny_plates, start=trained["networks"], validation=(), outputs=outputs)
    assert not (tmp_path / "networks.safetensors").exists()
    assert read_header(outputs_in(tmp_path)["foundation"])["epoch"] == 2
    assert "knn_accuracy" not in pd.read_parquet(outputs_in(tmp_path)["log"])


def test_prototypes_stay_frozen_in_the_first_epoch(tiny_plates):
    training = make_training(tiny_plates, frozen_epochs=1, warmup_epochs=0)
    before = training.learner.student.head.prototypes.detach().clone()
    take_steps(training, training.learner.steps_per_epoch)
    assert torch.equal(training.learner.student.head.prototypes, before)
    assert not torch.equal(
        training.learner.student.head.mlp[0].weight,
        make_training(tiny_plates).learner.student.head.mlp[0].weight,
    )
    sites, draws = next(batches(training))
    training.learner.train_step(sites, draws)
    assert not torch.equal(training.learner.student.head.prototypes, before)


def test_the_teacher_moves_by_its_momentum_alone(tiny_plates):
    training = make_training(tiny_plates, teacher_momentum=0.5, warmup_epochs=0)
    before = [p.clone() for p in training.learner.teacher.parameters()]
    take_steps(training, 1)
    for was, teacher, student in zip(
        before,
        training.learner.teacher.parameters(),
        training.learner.student.parameters(),
        strict=True,
    ):
        assert torch.allclose(teacher, (was + student) / 2, atol=1e-6)


def test_every_step_puts_its_temperature_into_one_and_the_same_tensor(tiny_plates):
    """A tensor made anew is copied from the CPU, and on a GPU every step would wait for that."""
    training = make_training(tiny_plates, teacher_temperature_epochs=1)
    learner, seen = training.learner, []
    run_loss, asked = learner.run_loss, learner.teacher_temperature

    def look(*arguments):
        seen.append((arguments[-1], float(arguments[-1]), asked()))
        return run_loss(*arguments)

    learner.run_loss = look
    take_steps(training, 3)
    tensors, values, expected = zip(*seen, strict=True)
    assert all(tensor is tensors[0] for tensor in tensors) and len(set(values)) == 3
    assert values == pytest.approx(expected)


def test_site_and_partner_give_half_of_the_views_each(tiny_plates):
    training = make_training(tiny_plates)
    sites, (global_draws, local_draws, _) = next(batches(training))
    blank = sites.clone()
    blank[1] = 0  # partners
    global_views, local_views = training.learner.make_views(blank, global_draws, local_draws)
    count = sites.shape[1]
    assert global_views.shape == (2 * count, 2, 32, 32) and local_views.shape == (
        2 * count,
        2,
        16,
        16,
    )
    assert (global_views[:count].std(dim=(2, 3)) > 0.5).all() and (
        global_views[count:].std(dim=(2, 3)) < 1e-3
    ).all()
    assert (local_views[:count].std(dim=(2, 3)) > 0.5).all() and (
        local_views[count:].std(dim=(2, 3)) < 1e-3
    ).all()


def test_parts_of_a_batch_add_up_to_the_whole(tiny_plates):
    whole, parts = (
        make_training(tiny_plates, drop_path=0.0),
        make_training(tiny_plates, drop_path=0.0, accumulate=4),
    )
    assert np.allclose(take_steps(whole, 4), take_steps(parts, 4), rtol=1e-5)
    for one, two in zip(
        whole.learner.student.parameters(), parts.learner.student.parameters(), strict=True
    ):
        assert torch.allclose(one, two, atol=1e-4)
    assert torch.allclose(whole.learner.centre, parts.learner.centre, atol=1e-6)


def test_recomputed_activations_change_nothing(tiny_plates):
    plain, thrifty = (
        make_training(tiny_plates, drop_path=0.0),
        make_training(
            tiny_plates, Compute(CPU, "fp32", checkpoint_activations=True), drop_path=0.0
        ),
    )
    assert np.allclose(take_steps(plain, 3), take_steps(thrifty, 3), rtol=1e-5)


def losses_of_a_rank(rank, ranks, plates, path, batch_norm):
    torch.set_num_threads(1)
    compute = Compute(CPU, "fp32", rank=rank, ranks=ranks)
    training = make_training(plates, compute, batch_norm=batch_norm, drop_path=0.0)
    losses = take_steps(training, 4)
    torch.save(
        (losses, training.learner.centre, dict(training.learner.student.state_dict())),
        path / f"{ranks}_{rank}_{batch_norm}.pt",
    )


def losses_of_both(rank, ranks, plates, path):
    for batch_norm in (False, True):
        losses_of_a_rank(rank, ranks, plates, path, batch_norm)


@pytest.fixture(scope="module")
def alone_and_in_two(tiny_plates, tmp_path_factory):
    """Folder of what one process and two have learnt, with batch normalisation and without."""
    folder = tmp_path_factory.mktemp("ranks")
    losses_of_both(0, 1, tiny_plates, folder)
    run_ranks(losses_of_both, 2, tiny_plates, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", [False, True])
def test_two_processes_train_like_one_with_the_same_batch(alone_and_in_two, batch_norm):
    alone, first, second = (
        torch.load(alone_and_in_two / f"{process}_{batch_norm}.pt", weights_only=True)
        for process in ("1_0", "2_0", "2_1")
    )
    assert np.allclose(alone[0], np.mean([first[0], second[0]], axis=0), rtol=1e-5)
    assert first[0] != second[0]  # each has its own part of the batch
    assert torch.allclose(alone[1], first[1], atol=1e-6)
    # What a bias adds, normalisation takes away: its gradient is 0 but for rounding, which Adam enlarges.
    idle = ("head.mlp.0.bias", "head.mlp.3.bias") if batch_norm else ()
    for name, tensor in alone[2].items():
        assert name in idle or torch.allclose(tensor, first[2][name], atol=1e-4), name
        assert torch.equal(first[2][name], second[2][name]), name


def test_batches_that_cannot_be_are_told(tiny_plates):
    with pytest.raises(UserError, match=r"pretrain.batch_size \(500\) is larger"):
        make_training(tiny_plates, batch_size=500)
    with pytest.raises(UserError, match="cannot be split"):
        make_training(tiny_plates, batch_size=9, accumulate=2)


def test_a_start_that_does_not_fit_is_told(tiny_plates):
    with pytest.raises(UserError, match="does not fit"):
        make_training(tiny_plates, start={"student.x": torch.zeros(1)})


def test_training_learns(tiny_plates, tmp_path):
    settings = settings_with(epochs=12, learning_rate=2e-3, teacher_momentum=0.9)
    settings["head"] = {**settings["head"], "batch_norm": True}
    train(tmp_path, tiny_plates, settings)
    log = pd.read_parquet(outputs_in(tmp_path)["log"])
    assert log["loss"].iloc[-1] < log["loss"].iloc[0] - 0.1
    assert log["knn_accuracy"].max() > 0.5  # four classes
