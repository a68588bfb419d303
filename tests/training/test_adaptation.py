"""Adaptations that do not drift: each switch does what it says, on the target's images alone."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from coda.crops.store import CropStore, CropWriter
from coda.errors import UserError
from coda.training.adaptation_terms import ConsensusTerm, MomentsTerm, PatchTerm, Seen
from coda.training.alignment import Alignment, TokenMoments, TokenStatistics, measure_tokens
from coda.training.compute import Compute, Machine
from coda.training.consensus import balanced, compound_consensus
from coda.training.dino import DinoHead, freeze_last_blocks
from coda.training.dino_trainer import DinoLearner
from coda.training.distributed import run_ranks
from coda.training.networks import load_foundation, load_task_model
from coda.training.optim import teacher_momentum
from coda.training.settings import AdaptSettings, ModelSettings
from coda.training.views import centre_view
from safetensors.torch import load_file
from small_training import (
    OFTEN,
    SETTINGS,
    batches,
    classify,
    make_training,
    outputs_in,
    settings_with,
    train,
)

CPU = torch.device("cpu")
MODEL = ModelSettings(**SETTINGS["model"])
SIZE = SETTINGS["views"]["global_size"]
FAST = dict(warmup_epochs=0, learning_rate=3e-3, teacher_momentum=0.9)
SWITCHES = {
    "teacher_momentum": {"teacher_momentum": "auto"},
    "frozen_blocks": {"frozen_blocks": 1},
    "patch_term": {"patch_term": 0.5},
    "hold_moments": {"hold_moments": 0.5},
    "consensus": {"consensus": {"weight": 0.5}},
    "all": {
        "frozen_blocks": 1,
        "patch_term": 0.5,
        "hold_moments": 0.5,
        "consensus": {"weight": 0.5},
    },
}


@pytest.fixture(scope="module")
def home(tiny_plates, tmp_path_factory) -> dict[str, str]:
    """Networks, task model and statistics of the training source: the first plates, the last one held out."""
    folder = tmp_path_factory.mktemp("home")
    train(folder, tiny_plates)
    paths = outputs_in(folder)
    paths["task_model"] = classify(folder, tiny_plates, paths["foundation"], epochs=15)["weights"]
    paths["statistics"] = str(folder / "tokens.safetensors")
    measured = {"statistics": paths["statistics"], "embeddings": str(folder / "embeddings.parquet")}
    model = {name: SETTINGS["model"][name] for name in ("architecture", "options")}
    settings = {"model": model, "image_size": SIZE}
    measure_tokens(
        tiny_plates[:-1], paths["foundation"], measured, settings, Machine(0, 1, "fp32"), "test"
    )
    return paths


@pytest.fixture(scope="module")
def away(tiny_plates, tmp_path_factory) -> list[str]:
    """Plates of another lab: darker, blurred."""
    return rewritten(tiny_plates, tmp_path_factory.mktemp("away"), pixels=other_optics)


def other_optics(pixels: np.ndarray) -> np.ndarray:
    wide = pixels.astype(float)
    return ((wide + np.roll(wide, 1, axis=2) + np.roll(wide, 1, axis=3)) / 4).astype(np.uint8)


def rewritten(plates, folder, pixels=lambda same: same, row=lambda same: same) -> list[str]:
    """Write plates again with other pixels or other metadata."""
    folder.mkdir(exist_ok=True)
    paths = []
    for path in plates:
        store = CropStore([path])
        paths.append(str(folder / path.rsplit("/", 1)[1]))
        with CropWriter(paths[-1], store.channels, 48, 48, store.settings) as writer:
            for number, metadata in enumerate(store.table.to_dict("records")):
                writer.write(row(metadata), pixels(store.gather([number])))
    return paths


def settings_of(consensus=None, **training) -> dict:
    """Give the settings of an adaptation."""
    settings = settings_with(**{**FAST, **training})
    return settings if consensus is None else settings | {"consensus": consensus}


def adapt(folder, plates, home, home_plates=(), **training) -> dict[str, torch.Tensor]:
    """Adapt to all but the last plate, and give the networks."""
    folder.mkdir(exist_ok=True)
    given = dict(start=home["networks"], task_model=home["task_model"])
    options = given | dict(statistics=home["statistics"], validation=(), home=home_plates)
    train(folder, plates, settings_of(**training), **options)
    return load_file(outputs_in(folder)["networks"])


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_is_off_by_default_and_an_adaptation_with_it_can_be_taken_up_again(
    home, away, tmp_path, monkeypatch, switch
):
    plain = adapt(tmp_path / "plain", away, home)
    whole = adapt(tmp_path / "whole", away, home, **SWITCHES[switch])
    assert not equal(plain, whole)
    update = DinoLearner.update

    def stop(self):
        update(self)
        if self.step == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(DinoLearner, "update", stop)
    options = dict(settings=settings_of(**SWITCHES[switch]), validation=(), watch=OFTEN)
    options |= {name: home[name] for name in ("task_model", "statistics")} | {
        "start": home["networks"]
    }
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(stopped, away, **options)
    monkeypatch.undo()
    train(stopped, away, **options)
    assert equal(load_file(outputs_in(stopped)["networks"]), whole)


@pytest.mark.parametrize("switch", SWITCHES)
def test_labels_replaced_by_noise_change_no_bit(home, away, tmp_path, switch):
    random = np.random.default_rng(0)

    def noise(row):
        known = pd.notna(row["Metadata_moa"])
        return row | {"Metadata_moa": f"noise {random.integers(9)}" if known else None}

    noisy = rewritten(away, tmp_path / "noisy", row=noise)
    assert set(CropStore(noisy).table["Metadata_moa"].dropna()) > {"noise 1", "noise 2"}
    one, two = (
        adapt(tmp_path / name, plates, home, **SWITCHES[switch], epochs=1)
        for name, plates in (("true", away), ("noise", noisy))
    )
    assert equal(one, two)


def test_frozen_blocks_and_norm_stay_those_of_the_task_model_and_all_else_moves(
    home, away, tmp_path
):
    before, after = load_file(home["networks"]), adapt(tmp_path / "a", away, home, frozen_blocks=1)
    frozen = ("teacher.foundation.blocks.1.", "teacher.foundation.norm.")
    for name, tensor in after.items():
        if name.startswith(frozen):
            assert torch.equal(tensor, before[name]), name
            student = name.replace("teacher", "student")
            assert torch.equal(after[student], before[name]), student
        elif name.startswith(("teacher.foundation.", "student.foundation.")):
            student = name.startswith("student") and name.replace("student", "teacher")
            if not (student and student.startswith(frozen)):
                assert not torch.equal(tensor, before[name]), name
    assert any(name.startswith(frozen) for name in after)


def test_gradients_flow_through_frozen_blocks_and_the_optimiser_knows_none_of_them(
    home, away, monkeypatch
):
    start = load_file(home["networks"])
    learner, whole = (
        make_training(away, start=start, drop_path=0.0, frozen_blocks=count).learner
        for count in (1, 0)
    )
    kept = {id(p) for p in (*learner.student.foundation.blocks[1].parameters(),)}
    kept |= {id(p) for p in learner.student.foundation.norm.parameters()}
    known = {id(p) for group in learner.optimizer.param_groups for p in group["params"]}
    assert not kept & known
    assert len(known) + len(kept) == len(list(learner.student.parameters()))
    # With the student's last block equal to the teacher's, frozen or not gives early layers one and the same gradient.
    freeze_last_blocks(whole.student.foundation, whole.teacher.foundation, 1)
    whole.student.requires_grad_(True)
    gradients = []
    for each in (learner, whole):
        torch.manual_seed(0)
        views = torch.randn(8, 2, SIZE, SIZE), torch.randn(8, 2, 16, 16)
        each.forward_backward(*views, torch.empty(0, 2, 48, 48), torch.arange(4))
        gradients.append(
            [p.grad for p in each.student.foundation.blocks[0].parameters()]
            + [each.student.foundation.patch_embed.proj.weight.grad]
        )
    assert all(g.abs().sum() > 0 for g in gradients[0])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-8) for a, b in zip(*gradients, strict=True))
    assert all(p.grad is None for p in learner.student.foundation.norm.parameters())


def test_more_frozen_blocks_than_there_are_is_told(home, away, tmp_path):
    with pytest.raises(UserError, match=r"adapt.frozen_blocks is 3, but the foundation has 2"):
        adapt(tmp_path / "a", away, home, frozen_blocks=3)


@pytest.mark.parametrize("steps", [100, 1_000, 8_700, 68_000])
def test_the_teacher_lags_by_the_papers_share_of_a_short_schedule_and_as_the_paper_in_a_long_one(
    steps,
):
    momentum = teacher_momentum("auto", steps)
    lag = -1 / math.log(momentum)
    assert lag == pytest.approx(-1 / math.log(0.996) * min(1, steps / 8_700))
    assert teacher_momentum(0.9, steps) == 0.9


def test_the_teacher_moves_by_the_scaled_momentum(tiny_plates):
    learner = make_training(tiny_plates, teacher_momentum="auto", **{"warmup_epochs": 0}).learner
    with torch.no_grad():
        for parameter in learner.student.parameters():
            parameter.add_(1.0)
    before = learner.teacher.head.prototypes.clone()
    learner.update()  # no gradient, so the student stays where it is
    moved = (learner.teacher.head.prototypes - before).mean()
    assert float(moved) == pytest.approx(1 - 0.996 ** (8_700 / learner.steps), abs=1e-4)


def seen(student, teacher=None, controls=None, heads=(None, None), rows=None, temperature=0.05):
    temperature = torch.tensor(temperature)
    return Seen(student, teacher, controls, rows, heads, temperature)


def test_the_patch_term_is_dinos_loss_of_mean_patch_tokens_between_the_two_global_views():
    torch.manual_seed(0)
    heads = tuple(DinoHead(6, hidden=8, bottleneck=4, prototypes=5) for _ in range(2))
    student, teacher = torch.randn(8, 10, 6, requires_grad=True), torch.randn(8, 10, 6)
    settings = AdaptSettings(centre_momentum=0.75)
    term = PatchTerm(1.0, settings, 5, CPU)
    term.centre = torch.randn(5)
    centre = term.centre.clone()
    found = term(seen(student, teacher, heads=heads))
    total = 0.0
    with torch.no_grad():
        logits = heads[1](torch.stack([tokens[1:].mean(dim=0) for tokens in teacher]))
        answers = heads[0](torch.stack([tokens[1:].mean(dim=0) for tokens in student]))
    for one, other in ((0, 4), (4, 0)):
        for number in range(4):
            target = F.softmax((logits[one + number] - centre) / 0.05, dim=0)
            total -= float(target @ F.log_softmax(answers[other + number] / 0.1, dim=0))
    assert float(found.detach()) == pytest.approx(total / 8, rel=1e-5)
    found.backward()
    assert student.grad[:, 0].abs().sum() == 0 and (student.grad[:, 1:].abs().sum(dim=2) > 0).all()
    assert all(p.grad is None for p in heads[1].parameters())
    term.end_step(3)
    assert torch.allclose(term.centre, 0.75 * centre + 0.25 * logits.mean(dim=0), atol=1e-6)
    first = PatchTerm(1.0, settings, 5, CPU)
    first(seen(student, teacher, heads=heads))
    first.end_step(0)
    assert torch.allclose(first.centre, logits.mean(dim=0), atol=1e-6)


def test_the_last_blocks_patch_outputs_learn_with_the_patch_term_alone(away):
    gradients = []
    for terms in ((), (PatchTerm(1.0, AdaptSettings(), 32, CPU),)):
        learner = make_training(away, drop_path=0.0, terms=terms).learner
        torch.manual_seed(0)
        views = torch.randn(8, 2, SIZE, SIZE), torch.randn(8, 2, 16, 16)
        found = []
        norm = learner.student.foundation.norm
        norm.register_forward_hook(
            lambda _, i, out, found=found: found.append(out) or out.retain_grad()
        )
        learner.forward_backward(*views, torch.empty(0, 2, 48, 48), torch.arange(4))
        gradients.append([out.grad for out in found])
    assert [out.ndim for out in gradients[0]] == [2]  # CLS tokens only
    assert (gradients[1][0].unflatten(0, (8, 17))[:, 1:].abs().sum(dim=2) > 0).all()


def statistics(tokens: torch.Tensor) -> TokenStatistics:
    patches = tokens[:, 1:]
    return TokenMoments(
        tokens[:, 0], patches.mean(dim=1), patches.var(dim=1, correction=0)
    ).statistics()


def test_the_distance_of_moments_is_the_formula_and_zero_for_the_source_itself():
    torch.manual_seed(0)
    source, target = torch.randn(20, 5, 3) * 2 + 1, torch.randn(7, 5, 3) * 0.5 - 3
    term = MomentsTerm(1.0, statistics(source), CPU)
    assert float(term(seen(target, controls=source))) == pytest.approx(0, abs=1e-8)
    plain = []
    for one, other in (
        (source[:, 0], target[:, 0]),
        (source[:, 1:].reshape(-1, 3), target[:, 1:].reshape(-1, 3)),
    ):
        one, other = one.double().numpy(), other.double().numpy()
        plain.append(((other.mean(0) - one.mean(0)) / one.std(0)) ** 2)
        plain[-1] = plain[-1] + np.log(other.std(0) / one.std(0)) ** 2
    assert float(term(seen(target, controls=target))) == pytest.approx(np.mean(plain), rel=1e-5)


def test_its_gradient_leads_towards_the_source():
    torch.manual_seed(0)
    source = torch.randn(50, 5, 3)
    tokens = (torch.randn(50, 5, 3) * 3 + 2).requires_grad_(True)
    term = MomentsTerm(1.0, statistics(source), CPU)
    distances = []
    for _ in range(200):
        distance = term(seen(tokens, controls=tokens))
        (gradient,) = torch.autograd.grad(distance, tokens)
        distances.append(float(distance.detach()))
        with torch.no_grad():
            tokens -= 50 * gradient
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.01 * distances[0]


def test_dimensions_that_do_not_vary_in_the_source_are_left_out():
    torch.manual_seed(0)
    source, target = torch.randn(20, 5, 3), torch.randn(7, 5, 3)
    source[:, :, 1] = 4.0
    whole = MomentsTerm(1.0, statistics(source), CPU)(seen(target, controls=target))
    source, target = (tokens[:, :, [0, 2]] for tokens in (source, target))
    part = MomentsTerm(1.0, statistics(source), CPU)(seen(target, controls=target))
    torch.testing.assert_close(whole, part)


def test_an_adaptation_that_holds_moments_ends_nearer_to_the_source(home, away, tmp_path):
    logs = []
    for weight in (1e-9, 5.0):
        place = tmp_path / str(weight)
        adapt(place, away, home, hold_moments=weight, epochs=4)
        logs.append(pd.read_parquet(outputs_in(place)["log"])["moment_distance"].tolist())
    (free, held) = logs
    assert held[-1] < held[0] and held[-1] < 0.5 * free[-1]


def test_controls_of_the_target_come_with_each_step_drawn_by_seed_and_step(away):
    store = CropStore(away[:3])
    controls = np.flatnonzero(store.table["Metadata_pert_type"] == "negcon")
    plans = []
    for ranks, rank, step in ((1, 0, 0), (1, 0, 3), (2, 0, 0), (2, 1, 0)):
        compute = Compute(CPU, "fp32", rank=rank, ranks=ranks)
        training = make_training(away[:3], controls=controls)
        training.learner.compute, training.learner.step = compute, step
        plans.append([rows for rows, _ in training.batches.plan(training.learner)])
    whole, later, first, second = plans
    assert all(rows.shape == (2, 8 + 2) for rows in whole)
    assert set(np.concatenate([rows[:, 8:] for rows in whole]).ravel()) <= set(controls)
    assert all(np.array_equal(*pair) for pair in zip(whole[3:], later, strict=True))
    assert any(
        not np.array_equal(one[:, 8:], two[:, 8:])
        for one, two in zip(whole, whole[1:], strict=False)
    )
    for rows, one, two in zip(whole, first, second, strict=True):
        assert np.array_equal(rows[:, 8:], np.concatenate([one[:, 4:], two[:, 4:]], axis=1))
        assert np.array_equal(rows[:, :8], np.concatenate([one[:, :4], two[:, :4]], axis=1))


def two_terms(rank, ranks, plates, path):
    """Take a few steps with the terms that gather over processes, as one of them."""
    torch.set_num_threads(1)
    controls = np.flatnonzero(CropStore(plates).table["Metadata_pert_type"] == "negcon")
    torch.manual_seed(0)
    terms = [
        PatchTerm(1.0, AdaptSettings(), 32, CPU),
        MomentsTerm(1.0, statistics(torch.randn(30, 5, 32)), CPU),
    ]
    compute = Compute(CPU, "fp32", rank=rank, ranks=ranks)
    options = dict(controls=controls, terms=terms, frozen_blocks=1, drop_path=0.0)
    training = make_training(plates, compute, **options)
    for (sites, draws), _ in zip(batches(training), range(4), strict=False):
        training.learner.train_step(sites, draws)
    state = training.learner.state()
    torch.save(state, path / f"{ranks}_{rank}.pt")


def test_two_processes_adapt_like_one_with_the_same_batch(away, tmp_path):
    two_terms(0, 1, away, tmp_path)
    run_ranks(two_terms, 2, away, tmp_path)
    alone, first, second = (
        torch.load(tmp_path / name, weights_only=True) for name in ("1_0.pt", "2_0.pt", "2_1.pt")
    )
    for name, tensor in alone.items():
        if name.startswith(("student", "teacher", "terms")):
            assert torch.allclose(tensor, first[name], atol=1e-4), name
            assert torch.equal(first[name], second[name]), name
    for name in ("terms.patch_loss.centre", "means.moment_distance"):
        assert torch.allclose(alone[name], first[name], rtol=1e-4, atol=1e-6), name
    assert alone["terms.patch_loss.centre"].abs().sum() > 0


def test_what_the_target_lacks_is_told(home, away, tmp_path):
    treated = rewritten(
        away, tmp_path / "treated", row=lambda row: row | {"Metadata_pert_type": "trt"}
    )
    for number, (training, words) in enumerate(
        (
            ({"hold_moments": 1.0}, "adapt.hold_moments needs negative controls"),
            ({"consensus": {}}, "consensus.aligned to false"),
        )
    ):
        with pytest.raises(UserError, match=words):
            adapt(tmp_path / str(number), treated, home, **training)
    adapt(tmp_path / "plain", treated, home, consensus={"aligned": False}, epochs=1)
    for missing, words in (
        ("statistics", "adapt.hold_moments needs"),
        ("task_model", "task model"),
    ):
        switch = {"statistics": {"hold_moments": 1.0}, "task_model": {"consensus": {}}}[missing]
        with pytest.raises(UserError, match=words):
            adapt(tmp_path / missing, away, home | {missing: None}, **switch)


@pytest.mark.parametrize("aligned", [False, True])
def test_the_consensus_is_the_mean_log_probability_over_a_compounds_sites(home, away, aligned):
    store = CropStore(away[:3])
    table = store.table
    rows = np.flatnonzero(table["Quality_ok"] & (table["Metadata_JCP2022"] != "JCP2022_000003"))
    foundation = load_foundation(home["foundation"], MODEL, 2, SIZE)
    task_model = load_task_model(home["task_model"], MODEL, 2, SIZE, None).eval()
    torch.manual_seed(0)
    wanted = statistics(torch.randn(30, 5, 32)) if aligned else None
    found = compound_consensus(
        store,
        rows,
        foundation,
        task_model,
        wanted,
        "test",
        size=SIZE,
        compute=Compute(CPU, "fp32"),
        threads=1,
    )
    with torch.no_grad():
        tokens = foundation.forward_features(
            centre_view(torch.from_numpy(store.gather(range(len(store)))), SIZE)
        )
        if aligned:
            for plate in table["Metadata_Plate"].unique():
                here = (table["Metadata_Plate"] == plate).to_numpy(copy=True)
                controls = here & (table["Metadata_pert_type"] == "negcon") & table["Quality_ok"]
                mapping = Alignment(32)
                mapping.fit(statistics(tokens[controls.to_numpy(copy=True)]), wanted)
                tokens[here] = mapping(tokens[here])
        log_probabilities = F.log_softmax(task_model(tokens), dim=-1).double()
    for number, row in table.iterrows():
        members = (table["Metadata_JCP2022"] == row["Metadata_JCP2022"]).to_numpy()
        members = members & np.isin(np.arange(len(table)), rows)
        if row["Metadata_pert_type"] == "negcon" or number not in rows:
            assert found[number].abs().sum() == 0
        else:
            plain = log_probabilities[members].mean(dim=0).softmax(dim=0).float()
            torch.testing.assert_close(found[number], plain, rtol=1e-3, atol=1e-5)
    assert len({tuple(each.tolist()) for each in found}) == 7  # six compounds, and none


def test_a_balanced_consensus_has_the_wanted_shares_and_keeps_what_tells_compounds_apart():
    torch.manual_seed(0)
    log_probabilities = F.log_softmax(3 * torch.randn(9, 3, dtype=torch.float64), dim=1)
    shares = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    found = balanced(log_probabilities + torch.tensor([4.0, 0.0, -2.0]), shares)
    torch.testing.assert_close(found.exp().mean(dim=0), shares)
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(9, dtype=torch.float64))
    # What all compounds share, as a class called too often, makes no difference; odds between compounds stay.
    torch.testing.assert_close(found, balanced(log_probabilities, shares))
    odds = (log_probabilities[:, 0] - log_probabilities[:, 1]).diff()
    torch.testing.assert_close((found[:, 0] - found[:, 1]).diff(), odds)


class Fixed(torch.nn.Module):
    """A task model that answers with the first numbers of the CLS token."""

    def forward(self, tokens):
        """Give them as logits."""
        return tokens[:, 0, :3]


def test_the_consensus_term_is_the_cross_entropy_of_sites_that_have_one():
    torch.manual_seed(0)
    tokens = torch.randn(8, 5, 6, requires_grad=True)
    targets = torch.rand(10, 3)
    targets /= targets.sum(dim=1, keepdim=True)
    targets[4] = 0
    rows = torch.tensor([7, 4, 2, 2])
    term = ConsensusTerm(1.0, Fixed(), targets)
    found = term(seen(tokens, rows=rows))
    plain = [
        -float(targets[row] @ F.log_softmax(tokens[number, 0, :3], dim=0).detach())
        for number, row in enumerate(rows.tolist())
        if row != 4
    ]
    assert float(found) == pytest.approx(np.mean(plain), rel=1e-6)
    found.backward()
    assert (tokens.grad.abs().sum(dim=(1, 2)) > 0).tolist() == [True, False, True, True] + [
        False
    ] * 4


def test_an_adaptation_to_the_consensus_approaches_it_and_leaves_the_task_model(
    home, away, tmp_path
):
    before = load_file(home["task_model"])
    logs = []
    for weight in (1e-9, 5.0):
        place = tmp_path / str(weight)
        adapt(place, away, home, consensus={"weight": weight}, epochs=6)
        logs.append(pd.read_parquet(outputs_in(place)["log"])["consensus_loss"].tolist())
    free, drawn = logs
    assert drawn[-1] < drawn[0] - 0.02 and drawn[-1] < free[-1] - 0.02
    assert equal(load_file(home["task_model"]), before)


def test_sites_of_the_training_source_have_no_consensus(
    home, away, tiny_plates, tmp_path, monkeypatch
):
    kept = []
    make = ConsensusTerm.__init__

    def keep(self, weight, task_model, targets):
        make(self, weight, task_model, targets)
        kept.append(targets)

    monkeypatch.setattr(ConsensusTerm, "__init__", keep)
    adapt(tmp_path / "a", away, home, tiny_plates[:1], consensus={}, epochs=1)
    own = len(CropStore(away[:3]))
    assert len(kept[0]) == own + len(CropStore(tiny_plates[:1]))
    assert kept[0][own:].abs().sum() == 0 and (kept[0][:own].sum(dim=1) > 0.9).sum() > 50
