"""The table of methods: complete, and refused where it cannot be what is meant."""

import pytest
from coda.errors import UserError
from coda.methods import ADAPTATIONS, METHODS, chosen_methods, in_order, method_name
from configs import checked


def test_all_means_every_method_and_each_has_words_of_its_own():
    assert chosen_methods(["all"]) == list(METHODS)
    labels = [method.label for method in METHODS.values()]
    assert len(set(labels)) == len(labels) and all("_" not in label for label in labels)
    assert checked(methods=["all"])["methods"] == list(METHODS)


def test_bases_are_methods_themselves():
    for method in METHODS.values():
        assert method.base in METHODS, method.name
        plain = METHODS[method.base]
        assert plain.treatment is None and plain.probe is None


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["unadapted", "coda_alligned"], "coda_alligned; did you mean coda_aligned"),
        (["unadapted", "superviced"], "did you mean supervised"),
        (["unadapted", "all"], "nothing beside it"),
        (["coda"], "lacks unadapted"),
    ],
)
def test_faults_are_told(names, words):
    with pytest.raises(UserError, match=words):
        checked(methods=names)


def test_methods_that_need_dmso_are_refused_without_it():
    with pytest.raises(UserError, match="unadapted_aligned_dmso.*need"):
        checked(choose__labelled=True)
    assert checked(choose__labelled=True, methods=["unadapted", "coda_aligned"])


def test_the_oracle_needs_a_validation_plate_of_each_target():
    changes = {
        "train_sources": ["source_5"],
        "target_sources": ["source_3"],
        "sources__source_3__validation_plate": None,
    }
    assert checked(methods=["unadapted"], **changes)
    with pytest.raises(UserError, match="sources.source_3.validation_plate"):
        checked(methods=["unadapted", "oracle"], **changes)


def test_only_what_saw_the_target_adapts_and_the_rest_is_shown_at_home():
    adapting = {name for name, method in METHODS.items() if method.adapts}
    assert {*ADAPTATIONS, "unadapted_aligned_dmso", "coda_knn", "oracle"} <= adapting
    assert {"unadapted_linear_sphered", "supervised_tent"} <= adapting
    plain = {"unadapted", "unadapted_knn", "unadapted_linear", "supervised", "shuffled"}
    assert plain | {"intensity", "position"} == set(METHODS) - adapting
    assert METHODS["unadapted_aligned"].at_home and not METHODS["coda_aligned"].at_home


@pytest.mark.parametrize(
    ("name", "before", "closes_gap"),
    [
        ("unadapted", None, False),
        ("unadapted_aligned", "unadapted", True),
        ("coda", "unadapted", True),
        ("coda_aligned_dmso", "unadapted", True),
        ("oracle", "unadapted", True),
        ("supervised", "unadapted", False),
        ("supervised_tent", "supervised", False),
        ("unadapted_knn", "unadapted", False),
        ("unadapted_knn_sphered", "unadapted_knn", False),
        ("coda_knn", "unadapted_knn", False),
        ("coda_linear_sphered", "unadapted_linear_sphered", False),
        ("intensity", "unadapted", False),
    ],
)
def test_methods_are_compared_with_what_they_were_before(name, before, closes_gap):
    assert (METHODS[name].before, METHODS[name].closes_gap) == (before, closes_gap)


def test_what_a_method_is_compared_with_is_a_method():
    assert {method.before for method in METHODS.values()} <= {None, *METHODS}


def test_order_and_words_follow_the_table_and_strangers_come_last():
    assert in_order(["zebra", "coda", "unadapted_aligned", "in_domain"]) == [
        "in_domain",
        "unadapted_aligned",
        "coda",
        "zebra",
    ]
    assert method_name("zebra_crossing") == "zebra crossing"
