"""Token alignment on tokens whose right answer is known."""

import numpy as np
import pandas as pd
import pytest
import torch
from coda.crops.store import CropStore
from coda.evaluation.predict import Pipeline, predict_sites
from coda.training.alignment import (
    Alignment,
    TokenMoments,
    TokenStatistics,
    load_statistics,
    measure_tokens,
    reference_sites,
    token_moments,
)
from coda.training.checkpoints import save_weights
from coda.training.compute import Compute, Machine
from coda.training.inference import apply_to_sites
from coda.training.networks import build_foundation, build_task_model
from coda.training.settings import ModelSettings
from harmonised_plates import blurred_lab, save_filters
from small_training import SETTINGS

CPU = Machine(0, 1, "fp32")
SIZE = SETTINGS["views"]["global_size"]


def moments(tokens: torch.Tensor) -> TokenMoments:
    patches = tokens[:, 1:]
    return TokenMoments(tokens[:, 0], patches.mean(dim=1), patches.var(dim=1, correction=0))


def align(tokens: torch.Tensor, found, wanted, **options) -> torch.Tensor:
    mapping = Alignment(tokens.shape[2])
    mapping.fit(found, wanted, **options)
    return mapping(tokens)


def random_tokens(seed: int, sites: int = 40, width: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sites, 10, width, generator=generator) * torch.arange(1.0, width + 1) + 3


def test_statistics_are_those_of_all_tokens_in_float64():
    tokens = random_tokens(0) + 1000  # a difference of squares in float32 would lose the deviation
    found = moments(tokens).statistics()
    exact = tokens.double().numpy()
    patches = exact[:, 1:].reshape(-1, exact.shape[2])
    assert found.mean.dtype == torch.float64
    np.testing.assert_allclose(found.mean, [exact[:, 0].mean(0), patches.mean(0)], rtol=1e-6)
    np.testing.assert_allclose(found.deviation, [exact[:, 0].std(0), patches.std(0)], rtol=1e-4)
    some = np.array([3, 7, 8])
    np.testing.assert_allclose(
        moments(tokens).statistics(some).deviation[0], exact[some, 0].std(0), rtol=1e-4
    )


def test_a_distortion_of_each_dimension_is_undone():
    tokens = random_tokens(1)
    random = np.random.default_rng(0)
    stretch, shift = (torch.tensor(random.uniform(0.5, 2, (2, 6))).float() for _ in range(2))
    each = [1] + [9]  # CLS and patches are distorted apart
    bent = torch.cat(
        [part * a + b for part, a, b in zip(tokens.split(each, 1), stretch, shift, strict=True)], 1
    )
    wanted, found = moments(tokens).statistics(), moments(bent).statistics()
    torch.testing.assert_close(align(bent, found, wanted), tokens, rtol=1e-5, atol=1e-5)
    centred = align(bent, found, wanted, means_only=True)
    torch.testing.assert_close(
        moments(centred).statistics().mean, wanted.mean, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        moments(centred).statistics().deviation, found.deviation, rtol=1e-5, atol=1e-5
    )


def test_the_form_on_dmso_does_not_depend_on_the_mix_of_classes_and_the_other_does():
    home = random_tokens(2, sites=60)
    effect = torch.randn(3, 1, 6, generator=torch.Generator().manual_seed(3)) * 4
    classes = torch.arange(60) % 3  # class 0 is DMSO
    home = home + effect[classes]
    away = home * 1.7 - 5  # the same wells at another lab
    half = classes != 2  # a plate without class 2
    dmso = np.flatnonzero(classes == 0)
    wanted = moments(home).statistics(), moments(home).statistics(dmso)
    by_all = align(away[half], moments(away[half]).statistics(), wanted[0])
    by_dmso = align(away[half], moments(away).statistics(dmso), wanted[1])
    torch.testing.assert_close(by_dmso, home[half], rtol=1e-4, atol=1e-4)
    assert (by_all - home[half]).abs().mean() > 0.5
    everything = align(away, moments(away).statistics(), wanted[0])
    torch.testing.assert_close(everything, home, rtol=1e-4, atol=1e-4)


def test_dimensions_that_do_not_vary_are_moved_and_nothing_explodes():
    tokens = random_tokens(4)
    flat = tokens.clone()
    flat[:, :, 2] = 7.0
    flat[:, :, 3] = 7.0 + 1e-9
    wanted = moments(tokens).statistics()
    mapped = align(flat, moments(flat).statistics(), wanted)
    assert torch.isfinite(mapped).all()
    for i, part in enumerate((mapped[:, :1, 2], mapped[:, 1:, 2])):
        torch.testing.assert_close(part, wanted.mean[i, 2].float().expand_as(part))
    one = align(tokens[:1], moments(tokens[:1]).statistics(), wanted)
    torch.testing.assert_close(one[0, 0], wanted.mean[0].float())  # a single site is moved only
    constant = TokenStatistics(wanted.mean, torch.zeros_like(wanted.deviation))
    back = align(tokens, moments(tokens).statistics(), constant)
    torch.testing.assert_close(back[5, 0], wanted.mean[0].float())


def test_reference_sites_are_good_ones_and_dmso_means_dmso():
    table = pd.DataFrame({"Metadata_pert_type": ["trt", "negcon", "negcon", None]})
    table["Quality_ok"] = [True, False, True, True]
    assert reference_sites(table, "all").tolist() == [0, 2, 3]
    assert reference_sites(table, "dmso").tolist() == [2]
    assert reference_sites(table.iloc[:2], "dmso").tolist() == []


@pytest.fixture(scope="module")
def trained(tiny_plates, tmp_path_factory) -> dict[str, str]:
    """An untrained foundation and task model, and the tokens of the first two plates."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    model = ModelSettings(**SETTINGS["model"])
    paths = {name: str(folder / f"{name}.safetensors") for name in ("foundation", "classifier")}
    header = {"channels": ["DNA", "ER"], "classes": ["a", "b"]}
    save_weights(paths["foundation"], build_foundation(model, 2, SIZE).state_dict(), header)
    task = build_task_model(model, None, 2, 2, SIZE)
    used = {
        k: v for k, v in task.state_dict().items() if not k.startswith(("patch_embed", "pos_embed"))
    }
    save_weights(paths["classifier"], used, header)
    outputs = {
        "statistics": str(folder / "tokens.safetensors"),
        "embeddings": str(folder / "embeddings.parquet"),
    }
    settings = {
        "model": {k: SETTINGS["model"][k] for k in ("architecture", "options")},
        "image_size": SIZE,
    }
    measure_tokens(tiny_plates[:1], paths["foundation"], outputs, settings, CPU, "test")
    return paths | outputs | {"settings": settings}


def predict(trained, plates, alignment=None):
    return predict_all(trained, plates, alignment)[str(alignment)]


def predict_all(trained, plates, *alignments):
    """Predict by the same weights under several alignments at once."""
    pipelines = {
        str(alignment): Pipeline(
            trained["classifier"], foundation=trained["foundation"], alignment=alignment
        )
        for alignment in alignments
    }
    return dict(
        predict_sites(plates, pipelines, trained["settings"], CPU, "test", trained["statistics"])
    )


def logits(table: pd.DataFrame) -> np.ndarray:
    return table.filter(regex="^Logit_").to_numpy()


def test_what_is_measured_is_what_the_foundation_gives(trained, tiny_plates):
    store = CropStore(tiny_plates[:1])
    backbone = build_foundation(ModelSettings(**SETTINGS["model"]), 2, SIZE).eval()
    from safetensors.torch import load_file

    backbone.load_state_dict(load_file(trained["foundation"]))
    sites = reference_sites(store.table, "dmso")
    assert 0 < len(sites) < len(store)
    compute = Compute(torch.device("cpu"), "fp32")
    direct = TokenMoments(
        *apply_to_sites(
            lambda views: token_moments(backbone.forward_features(views)),
            store,
            sites,
            SIZE,
            compute,
        )
    ).statistics()
    kept = load_statistics(trained["statistics"])
    assert set(kept) == {"all", "dmso"}
    torch.testing.assert_close(kept["dmso"].mean, direct.mean)
    torch.testing.assert_close(kept["dmso"].deviation, direct.deviation)
    table = pd.read_parquet(trained["embeddings"])
    embedding = np.stack(table["Embedding"])[reference_sites(table, "all")]
    np.testing.assert_allclose(embedding.mean(axis=0), kept["all"].mean[0], atol=1e-5)
    assert table["Metadata_Well"].tolist() == store.table["Metadata_Well"].tolist()


@pytest.mark.parametrize("alignment", ["all", "means", "dmso"])
def test_the_plate_that_gave_the_statistics_stays_as_it_is(trained, tiny_plates, alignment):
    plain, mapped = (predict(trained, tiny_plates[:1], how) for how in (None, alignment))
    np.testing.assert_allclose(logits(mapped), logits(plain), atol=1e-4)
    np.testing.assert_allclose(
        np.stack(mapped["Embedding"]), np.stack(plain["Embedding"]), atol=1e-3
    )


def test_each_plate_is_aligned_by_itself(trained, tiny_plates):
    together = predict(trained, tiny_plates, "all")
    alone = predict(trained, tiny_plates[2:3], "all")
    plate = together[together["Metadata_Plate"] == "b2p1"]
    np.testing.assert_allclose(logits(plate), logits(alone), atol=1e-4)
    table = CropStore(tiny_plates).table
    keys = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]
    pd.testing.assert_frame_equal(together[keys], table[keys])
    embedding = np.stack(plate["Embedding"])[reference_sites(table.loc[plate.index], "all")]
    wanted = load_statistics(trained["statistics"])["all"]
    np.testing.assert_allclose(embedding.mean(axis=0), wanted.mean[0], atol=1e-4)
    np.testing.assert_allclose(embedding.std(axis=0), wanted.deviation[0], rtol=1e-3)


def test_methods_that_share_a_foundation_are_predicted_as_each_alone(trained, tiny_plates):
    ways = (None, "all", "means", "dmso")
    together = predict_all(trained, tiny_plates, *ways)
    for way in ways:
        alone = predict(trained, tiny_plates, way)
        pd.testing.assert_frame_equal(
            together[str(way)], alone, check_exact=False, rtol=1e-4, atol=1e-5
        )
    for first, second in zip(ways, ways[1:], strict=False):
        assert np.abs(logits(together[str(first)]) - logits(together[str(second)])).max() > 1e-3


def test_harmonised_methods_stand_beside_others_without_a_trace(trained, tiny_plates, tmp_path):
    plates = blurred_lab(tiny_plates[2:], tmp_path)
    filters = save_filters(plates, tiny_plates[:1], tmp_path / "filters.parquet")

    def predicted(**kinds):
        pipelines = {
            name: Pipeline(trained["classifier"], None, trained["foundation"], *kind)
            for name, kind in kinds.items()
        }
        given = pipelines, trained["settings"], CPU, "test", trained["statistics"]
        return dict(predict_sites(plates, *given, filters=filters))

    plain = {"plain": (None, False), "aligned": ("dmso", False)}
    harmonised = {"harmonised": (None, True), "both": ("dmso", True)}
    together = predicted(**plain, **harmonised)
    for name, table in predicted(**plain).items():
        pd.testing.assert_frame_equal(together[name], table, check_exact=True)
    for one, other in (("plain", "harmonised"), ("aligned", "both"), ("harmonised", "both")):
        assert np.abs(logits(together[one]) - logits(together[other])).max() > 1e-3
    # Aligned, the tokens of harmonised images too have the statistics of the training source's own images.
    first = together["both"][together["both"]["Metadata_Plate"] == "b2p1"].reset_index(drop=True)
    embedding = np.stack(first["Embedding"])[reference_sites(first, "dmso")]
    wanted = load_statistics(trained["statistics"])["dmso"]
    np.testing.assert_allclose(embedding.mean(axis=0), wanted.mean[0], atol=1e-4)


def test_a_plate_without_dmso_is_left_empty_and_says_why(trained, tiny_plates, monkeypatch):
    import coda.evaluation.predict

    def none_on_the_second(table: pd.DataFrame, kind: str) -> np.ndarray:
        kept = reference_sites(table, kind)
        return kept[(table["Metadata_Plate"] != "b1p2").to_numpy()[kept]]

    monkeypatch.setattr(coda.evaluation.predict, "reference_sites", none_on_the_second)
    found = predict(trained, tiny_plates[:2], "dmso")
    empty = found["Metadata_Plate"] == "b1p2"
    assert np.isnan(logits(found[empty])).all() and np.isfinite(logits(found[~empty])).all()
    assert found.loc[empty, "Reason"].unique().tolist() == [
        "plate b1p2 has no DMSO site of good quality to align by"
    ]
    assert found.loc[~empty, "Reason"].isna().all()
