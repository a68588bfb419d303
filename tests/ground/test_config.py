import json
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from coda.config import check_config, pairs, pixel_sizes
from coda.errors import UserError
from coda.training.settings import (
    AdaptSettings,
    ConsensusSettings,
    DinoSettings,
    HeadSettings,
    ModelSettings,
    TaskSettings,
    TentSettings,
    ViewSettings,
    WatchSettings,
)
from configs import BASE, SCHEMA, checked
from places import CONFIG


def test_the_papers_config_is_the_papers():
    config = checked()
    assert config["adapt"]["epochs"] == config["pretrain"]["epochs"] == 300
    assert config["classify"]["epochs"] == 50 and config["views"]["global_size"] == 224
    assert config["model"] == {
        "architecture": "deit_small_patch16_224",
        "options": {},
        "weights": "imagenet",
    }
    assert config["sources"]["source_8"]["validation_plate"] == "A1166127"
    assert len(pairs(config)) == 12


def test_the_demos_config_is_right():
    demo = yaml.safe_load((CONFIG / "demo.yaml").read_text())
    assert check_config({**deepcopy(BASE), **demo}, deepcopy(SCHEMA))["results"] == "results/demo"


@pytest.mark.parametrize(
    ("section", "settings"),
    [("head", HeadSettings), ("views", ViewSettings), ("pretrain", DinoSettings), ("adapt", AdaptSettings),
     ("consensus", ConsensusSettings), ("model", ModelSettings), ("classify", TaskSettings),
     ("supervise", TaskSettings), ("tent", TentSettings)],
)  # fmt: skip
def test_defaults_of_the_schema_are_those_of_the_library(section, settings):
    # Where the ImageNet weights were fetched to and which network is convolutional are no keys: the rules add them.
    added = ("fetched", "convolutional")
    own = {key: value for key, value in vars(settings()).items() if key not in added}
    assert checked()[section] == own


def test_defaults_of_watching_are_those_of_the_library():
    known = vars(WatchSettings())
    assert checked()["watch"] == {name: known[name] for name in known if name != "folder"}


@pytest.mark.parametrize("name", ["2024", "no", "1.5", "null", "2024-05-01"])
def test_a_source_that_yaml_does_not_read_as_text_is_refused(name):
    text = f"sources: {{{name}: {{validation_plate: P1}}}}\ntarget_sources: [{name}]"
    with pytest.raises(UserError, match="does not read as text; put the name in quotes"):
        check_config({**deepcopy(BASE), **yaml.safe_load(text)}, deepcopy(SCHEMA))
    quoted = {**deepcopy(BASE), **yaml.safe_load(text.replace(name, f"'{name}'"))}
    quoted["sources"] |= BASE["sources"]
    assert check_config(quoted, deepcopy(SCHEMA))["target_sources"] == [name]


def test_sizes_of_views_that_the_patches_divide_are_right():
    assert checked(views__local_size=104, model__options={"patch_size": 8})


def test_every_key_has_a_description_and_every_optional_one_a_default():
    def walk(schema, path):
        schema = (
            {**SCHEMA["$defs"][schema["$ref"].split("/")[-1]], **schema}
            if "$ref" in schema
            else schema
        )
        for name, part in schema.get("properties", {}).items():
            assert part.get("description"), f"{path}.{name}"
            # What is only there for simulations has no default, or every run would be simulated.
            required = name in schema.get("required", []) or name == "simulation"
            assert required or "default" in part, f"{path}.{name}"
            walk(part, f"{path}.{name}")

    walk(SCHEMA, "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adapt__epoch": 3}, "adapt.epoch; did you mean epochs"),
        ({"galery": {}}, "galery; did you mean gallery"),
        ({"protocols": {"run": []}}, "protocols is called experiments now"),
        (
            {"sources__source_3__validaton_plate": "x"},
            "sources.source_3.validaton_plate; did you mean validation_plate",
        ),
        ({"adapt__epochs": "many"}, "adapt.epochs"),
        ({"adapt__epochs": 0}, "adapt.epochs"),
        ({"adapt": 3}, r"adapt is wrong: 3 is not a section, such as"),
        ({"seeds": 1}, r"seeds is wrong: 1 is not a list in brackets"),
        ({"adapt__learning_rate": "fast"}, "adapt.learning_rate is wrong: 'fast' is not a number"),
        ({"adapt__batch_size": "["}, "adapt.batch_size"),
        ({"adapt": {1: 2}}, "unknown key adapt.1"),
        ({"adapt__warmup_epochs": 300}, r"adapt.warmup_epochs \(300\).*adapt.epochs"),
        ({"pretrain": {"epochs": 1, "warmup_epochs": 0}}, "pretrain.frozen_epochs"),
        ({"compute__gpus": 3}, r"pretrain.batch_size \(128\).*compute.gpus"),
        ({"gallery__plates_in_flight": 2000}, "gallery.plates_in_flight"),
        ({"views": {"local_size": 224, "global_size": 96}}, "views.local_size"),
        ({"views__local_count": 5}, "views.local_count"),
        ({"channels": ["DNA", "Brightfield"]}, "channels"),
        ({"seeds": []}, "seeds"),
        ({"train_sources": ["source_33"]}, "source_33.*did you mean source_3"),
        ({"target_sources": ["source_3"], "train_sources": ["source_3"]}, "target_sources"),
        ({"sources__source_3__validation_plate": None}, "sources.source_3.validation_plate"),
        ({"crops__size": 128}, "views.global_size is 224"),
        (
            {"crops__um_per_pixel": 0.6, "sources__source_3__um_per_pixel": None},
            "sources.source_3.um_per_pixel",
        ),
        (
            {"harmonise__rescale": True, "sources__source_3__um_per_pixel": None},
            "harmonise.rescale needs sources.source_3.um_per_pixel",
        ),
        ({"views__local_size": 100}, "views.local_size is 100.*patches of 16"),
        ({"views__local_size": 90, "model__options": {"patch_size": 8}}, "patches of 8"),
        ({"views__blur": 40}, "views.blur"),
        ({"adapt__accumulate": 3}, r"adapt.batch_size \(128\).*adapt.accumulate"),
        ({"adapt__validate_every": 3}, "adapt.validate_every"),
        ({"crops__kind": "cells", "channels": ["ER", "Mito"]}, "crops.nuclei to gallery"),
        ({"crops__illumination": "galery"}, "crops.illumination"),
        ({"choose__labelled": True, "data__wells": "all"}, "choose.labelled"),
        ({"experiments__run": ["mix"], "data__wells": "treated"}, "data.wells to labelled"),
        ({"model__weights": "imagnet"}, "model.weights"),
        ({"adapt__teacher_momentum": "slow"}, "adapt.teacher_momentum"),
        ({"adapt__teacher_momentum": 1.5}, "adapt.teacher_momentum"),
        ({"pretrain__frozen_blocks": 2}, "pretrain.frozen_blocks"),
        (
            {"choose__labelled": True, "methods": ["unadapted"], "adapt__hold_moments": 0.1},
            "choose.labelled leaves out the DMSO wells, without which there is no adapt.hold_moments",
        ),
        (
            {"choose__labelled": True, "methods": ["unadapted", "coda_consensus"]},
            "coda_consensus.*need.*consensus.aligned",
        ),
        ({"methods": ["coda"]}, "methods"),
    ],
)
def test_faults_are_told_with_the_key(changes, words):
    with pytest.raises(UserError, match=words):
        checked(**changes)


def test_powers_of_ten_are_numbers():
    """YAML reads 1e-4 as text."""
    config = checked(adapt__learning_rate="1e-4", crops__flags={"blurred": "6e0"})
    assert config["adapt"]["learning_rate"] == 1e-4 and config["crops"]["flags"]["blurred"] == 6


@pytest.mark.parametrize("number", [10**30, -(10**16), 1e300, 10**400])
def test_numbers_that_nobody_means_are_refused(number):
    for key in ("pretrain__epochs", "crops__flags", "gallery__timeout"):
        with pytest.raises(UserError, match=key.replace("__", ".")):
            checked(**{key: {"blurred": number} if key == "crops__flags" else number})


def test_whole_numbers_are_whole_whatever_they_look_like():
    epochs = checked(pretrain__epochs=30.0)["pretrain"]["epochs"]
    assert epochs == 30 and isinstance(epochs, int)


def test_an_alias_within_itself_is_refused():
    options = {}
    options["deeper"] = options
    with pytest.raises(UserError, match="model has no end"):
        checked(model__options=options)


def test_weights_with_the_longest_of_names_do_not_exist():
    with pytest.raises(UserError, match="nor a file that exists"):
        checked(model__weights="x" * 10_000)


@pytest.mark.parametrize(
    ("given", "meant"), [("auto", "auto"), ("0.99", 0.99), (1, 1), ("1", 1), (0.5, 0.5)]
)
def test_a_number_or_a_word_is_read_as_either(given, meant):
    assert checked(adapt__teacher_momentum=given)["adapt"]["teacher_momentum"] == meant


def test_a_missing_key_is_named():
    config = deepcopy(BASE)
    del config["tables"]["drugs"]
    with pytest.raises(UserError, match="tables.drugs"):
        check_config(config, deepcopy(SCHEMA))


def test_defaults_are_not_shared():
    one, two = checked(), checked()
    one["adapt"]["epochs"] = 1
    one["methods"].append("x")
    assert two["adapt"]["epochs"] == 300 and one["pretrain"]["epochs"] == 300
    assert "x" not in two["methods"]


def test_text_from_the_command_line_becomes_what_is_meant():
    config = checked(
        adapt={"epochs": "30", "clip": "0.5"}, seeds=["1", "2"], crops={"um_per_pixel": "null"}
    )
    assert config["adapt"]["epochs"] == 30 and config["adapt"]["clip"] == 0.5
    assert config["seeds"] == [1, 2] and config["crops"]["um_per_pixel"] is None
    config = checked(sources__source_3__validation_plate="1053597806")
    assert config["sources"]["source_3"]["validation_plate"] == "1053597806"


def test_ids_of_digits_alone_are_text():
    config = checked(sources__source_3__validation_plate=1053597806)
    assert config["sources"]["source_3"]["validation_plate"] == "1053597806"


def test_a_simulated_gallery_lies_below_the_results():
    demo = yaml.safe_load((CONFIG / "demo.yaml").read_text())
    world = check_config(
        {**deepcopy(BASE), **demo, "results": "results/world_2/"}, deepcopy(SCHEMA)
    )
    assert world["gallery"]["root"].startswith("results/world_2/gallery/")
    places = {str(Path(path).parent) for path in world["tables"].values()}
    assert places == {"results/world_2/gallery/tables"} and set(world["tables"]) == set(
        BASE["tables"]
    )


def test_an_unknown_size_of_a_pixel_is_taken_to_be_the_mean_of_the_others():
    sources = {"train_sources": ["source_3"], "target_sources": ["source_5", "source_8"]}
    config = checked(**sources)
    assert pixel_sizes(config) == {"source_3": 0.597976, "source_5": 0.64974, "source_8": 0.7032}
    config = checked(**sources, sources__source_8__um_per_pixel=None)
    assert pixel_sizes(config)["source_8"] == pytest.approx((0.597976 + 0.64974) / 2)
    unknown = {f"sources__source_{number}__um_per_pixel": None for number in (3, 5, 8)}
    assert set(pixel_sizes(checked(**sources, **unknown)).values()) == {1.0}
    assert set(pixel_sizes(checked(crops__um_per_pixel=0.8)).values()) == {0.8}


def test_the_order_of_keys_does_not_matter():
    config = checked()
    turned = {
        name: dict(reversed(part.items())) if isinstance(part, dict) else part
        for name, part in reversed(config.items())
    }
    assert json.dumps(check_config(turned, SCHEMA)) == json.dumps(config)


@pytest.mark.parametrize(
    "name", ["oracle", "coda_replay", "unadapted_linear", "measured", "harmonised_supervised_adabn"]
)
def test_a_pack_has_not_what_every_method_needs(name):
    with pytest.raises(
        UserError, match=f"predict.method is {name}, whose networks or images a pack does not hold"
    ):
        checked(pack="pack", predict={"method": name})


def test_calls_come_with_the_steps_that_lead_to_them():
    config = checked(pack="pack")
    assert config["methods"] == [
        "unadapted", "harmonised_unadapted", "harmonised_unadapted_aligned_dmso",
    ]  # fmt: skip
    with pytest.raises(
        UserError, match="predict.method is codda, which is no method; did you mean"
    ):
        checked(pack="pack", predict={"method": "codda"})
