"""Methods: composed of parts, named and told apart by them, and refused where they are none."""

import pytest
from coda.errors import UserError
from coda.methods import (
    ADAPTATIONS,
    ALIGNMENTS,
    ALONE,
    COMPOSED,
    METHODS,
    PROBES,
    Method,
    chosen_methods,
    in_order,
    method,
    method_name,
    names_of,
    shown_after,
)
from configs import checked


@pytest.mark.parametrize(
    ("name", "made", "label"),
    [
        ("unadapted", Method(), "Unadapted"),
        ("coda_aligned", Method("coda", "all"), "CODA, aligned"),
        (
            "coda_batch_aligned_dmso",
            Method("coda_batch", "dmso"),
            "CODA, other batches only, aligned on DMSO",
        ),
        (
            "oda_linear_sphered",
            Method("oda", head="linear_sphered"),
            "ODA (no partners), linear probe, sphered",
        ),
        ("coda_aligned_means_knn", Method("coda", "means", "knn"), "CODA, means aligned, kNN"),
        ("supervised_tent", Method("tent", head="supervised"), "Supervised with TENT"),
        ("oracle", Method("oracle"), "Trained on the target"),
        ("shuffled", Method(head="shuffled"), "Control: shuffled labels"),
        ("intensity", Method(head="intensity"), "Control: intensities only"),
    ],
)
def test_a_name_is_made_of_the_parts(name, made, label):
    assert method(name) == made and made.name == name
    assert method_name(name) == made.label == label


def test_names_and_words_are_each_one_method_s():
    labels = [made.label for made in COMPOSED.values()]
    assert len(set(labels)) == len(set(COMPOSED.values())) == len(COMPOSED)
    assert all("_" not in label for label in labels)
    parts = (
        {made.adaptation for made in COMPOSED.values()},
        {made.head for made in COMPOSED.values()},
    )
    assert parts == ({"unadapted", "oracle", "tent", *ADAPTATIONS}, {"task_model", *PROBES, *ALONE})
    kinds = [names_of(kind) for kind in ("network", "probe", "profiles", "control")]
    assert sorted(sum(kinds, [])) == sorted(COMPOSED) and all(kinds)


def test_methods_that_answer_a_question_are_chosen_as_they_are():
    assert checked(methods=list(METHODS))["methods"] == list(METHODS)
    assert set(checked()["methods"]) <= set(METHODS)  # what the paper's run compares


def test_parts_in_the_config_are_the_method_of_that_name():
    parts = [{"adaptation": "coda", "alignment": "dmso", "head": "linear"}, {"head": "position"}]
    names = checked(methods=["unadapted", *parts, {"adaptation": "unadapted"}])["methods"]
    assert names == ["unadapted", "coda_aligned_dmso_linear", "position"]
    for made in COMPOSED.values():
        parts = {
            name: getattr(made, name) for name in ("harmonised", "adaptation", "alignment", "head")
        }
        given = {part: value for part, value in parts.items() if value}
        assert chosen_methods(["unadapted", given])[-1] == made.name


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["unadapted", "coda_alligned"], "coda_alligned; did you mean coda_aligned.*config/README"),
        (["unadapted", "superviced"], "did you mean supervised"),
        (["unadapted", "all"], "unknown entry all"),
        (["unadapted", "harmonised_oracle"], "unknown entry harmonised_oracle"),
        (
            ["unadapted", {"harmonised": True, "head": "position"}],
            "harmonised: True, head: position.*do not go",
        ),
        (["unadapted", {"harmonised": "often"}], "methods.1.harmonised is wrong"),
        (["unadapted", "coda_aligned_linear_sphered"], "unknown entry"),
        (["coda"], "lacks unadapted"),
        (["unadapted", {"adaptation": "codda"}], "unknown adaptation codda; did you mean coda"),
        (["unadapted", {"alignment": "xyz"}], "unknown alignment xyz; known are all, dmso, means"),
        (["unadapted", {"adaptation": "oracle", "alignment": "dmso"}], "do not go together"),
        (["unadapted", {"adaption": "coda"}], "methods.1.adaption; did you mean adaptation"),
        (["unadapted", {"head": 3}], "unknown head 3"),
        (["unadapted", ["coda"]], "methods.1 is wrong"),
    ],
)
def test_faults_are_told(names, words):
    with pytest.raises(UserError, match=words):
        checked(methods=names)


def test_methods_that_need_dmso_are_refused_without_it():
    with pytest.raises(UserError, match="unadapted_aligned_dmso.*need"):
        checked(choose__labelled=True)
    with pytest.raises(UserError, match="oda_knn_sphered.*need"):
        checked(choose__labelled=True, methods=["unadapted", "oda_knn_sphered"])
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
    adapting = {name for name, made in COMPOSED.items() if made.adapts}
    assert {*ADAPTATIONS, "unadapted_aligned_dmso", "coda_knn", "oracle"} <= adapting
    assert {"unadapted_linear_sphered", "supervised_tent"} <= adapting
    plain = {"unadapted", "unadapted_knn", "unadapted_linear", "supervised", "shuffled"}
    assert plain | {"measured", "intensity", "position"} == set(COMPOSED) - adapting
    assert method("unadapted_aligned").at_home and not method("coda_aligned").at_home


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
        ("unadapted_aligned_linear", "unadapted_linear", False),
        ("coda_aligned_dmso_linear", "unadapted_linear", False),
        ("measured", "unadapted", False),
        ("measured_sphered", "measured", False),
        ("measured_harmony", "measured", False),
        ("intensity", "unadapted", False),
    ],
)
def test_methods_are_compared_with_what_they_were_before(name, before, closes_gap):
    assert (method(name).before, method(name).closes_gap) == (before, closes_gap)


def test_what_a_method_is_compared_with_is_a_method():
    assert {made.before for made in COMPOSED.values()} <= {None, *COMPOSED}


def test_a_probe_reads_the_embeddings_of_the_network_with_its_other_parts():
    assert method("coda_aligned_dmso_linear").network == "coda_aligned_dmso"
    assert method("harmonised_coda_aligned_dmso_linear").foundation == "harmonised_coda"
    assert method("unadapted_knn_sphered").network == "unadapted"
    assert {method(name).network for name in names_of("probe")} <= set(names_of("network"))


def test_harmonised_images_have_their_place_in_names_and_words():
    made = Method("coda", "dmso", harmonised=True)
    assert made.name == "harmonised_coda_aligned_dmso"
    assert made.label == "CODA, harmonised, aligned on DMSO"
    assert Method("unadapted", "dmso", harmonised=True).label == "Harmonised, aligned on DMSO"
    assert Method(head="supervised", harmonised=True).label == "Supervised, harmonised"
    assert (made.before, Method(harmonised=True).before) == ("unadapted", "unadapted")
    assert made.closes_gap and Method(harmonised=True).adapts


def test_order_and_words_follow_the_parts_and_strangers_come_last():
    assert in_order(
        ["zebra", "coda", "chance", "coda_linear", "unadapted_aligned", "in_domain"]
    ) == [
        "in_domain",
        "unadapted_aligned",
        "coda",
        "coda_linear",
        "chance",
        "zebra",
    ]
    places = [
        (made.harmonised, list(ALIGNMENTS).index(made.alignment))
        for made in map(method, in_order(names_of("network")))
        if made.adaptation == "coda" and made.alignment
    ]
    assert places == sorted(places)
    assert method_name("zebra_crossing") == "zebra crossing"


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("unadapted", ["unadapted"]),
        ("coda", ["unadapted", "coda"]),
        (
            "harmonised_coda_aligned_dmso",
            [
                "unadapted",
                "harmonised_unadapted",
                "harmonised_coda",
                "harmonised_coda_aligned_dmso",
            ],
        ),
        ("unadapted_aligned", ["unadapted", "unadapted_aligned"]),
    ],
)
def test_steps_lead_from_the_unadapted_network_to_a_method(name, steps):
    assert method(name).steps == steps


def test_figures_of_a_pair_show_the_last_method_that_adapts_without_labels():
    methods = ["unadapted", "coda", "harmonised_coda_consensus", "oracle", "intensity", "coda_knn"]
    assert shown_after(methods) == "harmonised_coda_consensus"
    assert shown_after(methods, "coda") == "coda"
    assert shown_after(["unadapted", "position"]) is None
    for other in ("intensity", "oracle", "unadapted", "coda_aligned"):
        with pytest.raises(UserError, match=f"figures.after is {other}, which is not among"):
            shown_after(methods, other)
