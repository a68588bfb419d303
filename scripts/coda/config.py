"""Checks of the config, against its schema and for contradictions, before anything runs."""

import math
import os
import re
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from coda.errors import UserError, did_you_mean
from coda.methods import COMPOSED, chosen_methods, shown_after
from coda.paths import check_name, expanded_path
from coda.simulated_gallery import simulated_places

# Keys that have another name now.
RENAMED = {"protocols": "experiments"}

DEEPEST = 20  # sections within sections
LARGEST = 2**53  # to which all whole numbers are exact

# The types of a JSON schema in words.
KINDS = {
    "array": "a list in brackets, such as [1, 2]",
    "object": "a section, such as {epochs: 3}",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}


def check_config(config: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Fill in defaults; refuse unknown keys, values of the wrong type and contradictions.

    Parameters
    ----------
    config
        As read from the files and the command line; changed in place.
    schema
        JSON schema with a default for every key that may be left out.

    Returns
    -------
    dict
        `config`.

    Raises
    ------
    UserError
        On the first error, naming the key and the way out.
    """
    sources = config.get("sources")
    if (
        unquoted := [name for name in sources if not isinstance(name, str)]
        if isinstance(sources, dict)
        else []
    ):
        raise UserError(
            f"sources names {unquoted[0]!r}, which YAML does not read as text; put the name in quotes, there and in "
            "train_sources and target_sources."
        )
    errors = list(_FillingValidator(schema).iter_errors(config))
    if errors:
        # An unknown key is the most likely mistake, and often the reason for the other errors.
        errors.sort(
            key=lambda error: (
                error.validator != "additionalProperties",
                list(map(str, error.absolute_path)),
            )
        )
        raise UserError(_sentence(errors[0]))
    if config["pack"]:
        config["methods"] = steps_to_calls(config["predict"]["method"])
    _expand_paths(config)
    _refuse_no_numbers(config)
    if "simulation" in config:
        config["gallery"]["root"], config["tables"] = simulated_places(config["results"])
    _check_contradictions(config)
    _sort_keys(config)
    return config


def _expand_paths(config: dict[str, Any]) -> None:
    """Replace ``~`` and variables in all paths; refuse names of which Snakemake would make wildcards."""
    places = [
        (config, "", "results"),
        (config, "", "sample_sheet"),
        (config["gallery"], "gallery.", "root"),
        (config["model"], "model.", "weights"),
        *((config["tables"], "tables.", name) for name in config["tables"]),
    ]
    for section, above, name in places:
        if section[name] is not None:
            section[name] = expanded_path(section[name], above + name)
    if not re.fullmatch(
        r"[^\s\x00-\x1f]([^\x00-\x1f]*[^\s\x00-\x1f])?", config["results"].rstrip("/")
    ):
        raise UserError(
            f"results is {config['results']!r}; name a folder, such as results, and not the root of the disk."
        )
    if re.search(r"[{}]", config["results"]):
        raise UserError(
            f"results is {config['results']}, but Snakemake reads braces as wildcards; name a folder without them."
        )
    for source in config["sources"]:
        check_name(source, "sources")
        if alike := [other for other in config["sources"] if other.lower() == source.lower()][1:]:
            raise UserError(
                f"sources has {source} and {alike[0]}, which differ in case alone: on many disks their results would "
                "be the same files; rename one."
            )
        if source == "all":  # as means over pairs are called in tables of scores
            raise UserError("sources has a source named all, which means all sources; rename it.")


def _refuse_no_numbers(section: dict[str, Any] | list, place: str = "") -> None:
    """Refuse values that are numbers to YAML but none to compute with: no limit holds back a nan."""
    for key, value in section.items() if isinstance(section, dict) else enumerate(section):
        if isinstance(value, dict | list):
            if place.count(".") > DEEPEST:  # an alias of YAML within what it stands for
                raise UserError(f"The config key {place.split('.')[0]} has no end; write it out.")
            _refuse_no_numbers(value, f"{place}{key}.")
        elif isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"The config key {place}{key} is {value}; give a finite number.")
        elif isinstance(value, int | float) and abs(value) > LARGEST:
            raise UserError(
                f"The config key {place}{key} is larger than {LARGEST:,}; give the number that was meant."
            )


def steps_to_calls(name: str) -> list[str]:
    """Give the methods on the way to the one that makes the calls, which a pack must have the networks of.

    Raises
    ------
    UserError
        If there is no such method, or it needs more than a pack and the target's images.
    """
    if name not in COMPOSED:
        raise UserError(
            f"The config key predict.method is {name}, which is no method{did_you_mean(name, COMPOSED)} "
            "See config/README.md."
        )
    wanted = COMPOSED[name]
    if wanted.head != "task_model" or wanted.adaptation not in (
        "unadapted",
        "oda",
        "coda",
        "coda_batch",
        "coda_consensus",
    ):
        raise UserError(
            f"The config key predict.method is {name}, whose networks or images a pack does not hold; it has "
            "unadapted, oda, coda, coda_batch and coda_consensus, each also harmonised and aligned."
        )
    return wanted.steps


def _sort_keys(section: dict[str, Any]) -> None:
    """Sort the keys of a section and those within it: Snakemake reruns jobs whose params differ in order alone."""
    for name in sorted(section, key=str):
        section[name] = part = section.pop(name)
        if isinstance(part, dict):
            _sort_keys(part)


def _fill_properties(validator, properties, instance, schema):
    """Set defaults before the properties are checked, so that nested defaults are filled too."""
    if validator.is_type(instance, "object"):
        for name, part in properties.items():
            if name in instance:
                instance[name] = _as_meant(instance[name], part)
            elif "default" in part:
                default = part["default"]
                instance[name] = default.copy() if isinstance(default, dict | list) else default
    check = Draft202012Validator.VALIDATORS["properties"]
    yield from check(validator, properties, instance, schema)


def _fill_items(validator, items, instance, schema):
    if validator.is_type(instance, "array"):
        instance[:] = [_as_meant(value, items) for value in instance]
    yield from Draft202012Validator.VALIDATORS["items"](validator, items, instance, schema)


def _as_meant(value: Any, schema: dict[str, Any]) -> Any:
    """Read text as YAML where text cannot be meant.

    Snakemake hands over what stands in braces or brackets after ``--config`` as text throughout,
    numbers too.
    """
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    numeric = "integer" in kinds or "number" in kinds
    if isinstance(value, float) and value.is_integer() and "integer" in kinds:
        return int(value)
    if isinstance(value, int) and "string" in kinds and not numeric:
        return str(value)  # ids of digits alone, such as plates', are numbers to YAML
    if not isinstance(value, str) or not kinds:
        return value
    if "string" in kinds and not numeric:
        return None if value == "null" and "null" in kinds else value
    try:
        meant = yaml.safe_load(value)
        # YAML reads 1e-4 as text; only 1.0e-4 is a number to it.
        return float(meant) if isinstance(meant, str) and "number" in kinds else meant
    except (yaml.YAMLError, ValueError):
        return value


_FillingValidator = extend(
    Draft202012Validator, {"properties": _fill_properties, "items": _fill_items}
)


def _sentence(error: ValidationError) -> str:
    """Say which key is wrong, and why."""
    place = ".".join(map(str, error.absolute_path))
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = min(str(name) for name in error.instance if name not in known)
        if RENAMED.get(unknown) in known:
            return f"The config key {unknown} is called {RENAMED[unknown]} now; rename it."
        hint = did_you_mean(unknown, known, f"; known are {', '.join(known)}.")
        return f"The config has an unknown key {'.'.join(filter(None, [place, unknown]))}{hint}"
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance][0]
        return f"The config lacks the key {'.'.join(filter(None, [place, missing]))}; see config/README.md."
    fault = error.message
    if error.validator == "type":
        kinds = error.validator_value
        kinds = [kinds] if isinstance(kinds, str) else kinds
        fault = f"{error.instance!r} is not {' or '.join(KINDS[kind] for kind in kinds)}"
    meaning = error.schema.get("description", "See config/README.md.")
    return f"The config key {place} is wrong: {fault}. {meaning}"


def _check_contradictions(config: dict[str, Any]) -> None:
    """Refuse settings that are valid on their own but contradict each other."""
    known = config["sources"]
    for key in ("train_sources", "target_sources"):
        for source in config[key]:
            if source not in known:
                raise UserError(
                    f"{key} names {source}, which is not among sources ({', '.join(known)})"
                    f"{did_you_mean(source, known)}"
                )
    for source in config["train_sources"]:
        if known[source]["validation_plate"] is None and not config["pack"]:
            raise UserError(
                f"sources.{source}.validation_plate is null, but {source} is a training source and needs one."
            )
    if not pairs(config):
        raise UserError("target_sources has no source besides the training source; add one.")
    _check_views(config)
    _check_trainings(config)
    without = [name for name in chosen_methods(config["methods"]) if COMPOSED[name].plate_norms]
    if without and not config["supervised_network"]:
        raise UserError(
            f"The config key methods has {without[0]}, which needs a network with batch norms; name one as "
            "supervised_network, such as resnet18."
        )
    if config["choose"]["labelled"] and config["data"]["wells"] == "all":
        raise UserError("choose.labelled takes labelled wells only, so data.wells cannot be 'all'.")
    wells = config["data"]["wells"]
    if "mix" in config["experiments"]["run"] and wells != "labelled":
        raise UserError(
            f"experiments.run has mix, which leaves half of the mechanisms away, but data.wells is {wells!r}: wells "
            "without a mechanism would stay, so steps of training would differ; set data.wells to labelled, or take "
            "mix out of experiments.run."
        )
    crops = config["crops"]
    if (crops["kind"], crops["nuclei"]) == ("cells", "segmented") and "DNA" not in config[
        "channels"
    ]:
        raise UserError(
            "crops.kind is cells, so nuclei are segmented in the channel DNA; add it to channels or "
            "set crops.nuclei to gallery."
        )
    if config["crops"]["um_per_pixel"] is not None:
        unknown = [source for source in known if known[source]["um_per_pixel"] is None]
        if unknown:
            raise UserError(f"crops.um_per_pixel needs sources.{unknown[0]}.um_per_pixel.")
    _check_methods(config)
    least, most = config.get("simulation", {}).get("effect", (0, 0))
    if least > most:
        raise UserError(
            f"simulation.effect is [{least}, {most}]; the first number must not be larger."
        )
    weights = config["model"]["weights"]
    if weights not in ("imagenet", "random") and not os.path.isfile(weights):
        raise UserError(
            f"model.weights is {weights!r}: neither imagenet, nor random, nor a file that exists."
        )


def _check_views(config: dict[str, Any]) -> None:
    """Refuse views that cannot be cut from the crops, or into the network's patches."""
    views, crop, model = config["views"], config["crops"]["size"], config["model"]
    # timm's names say the size of the patches; options can say another.
    named = re.search(r"patch(\d+)", model["architecture"])
    patch = model["options"].get("patch_size", int(named[1]) if named else None)
    if views["local_size"] > views["global_size"]:
        raise UserError(
            f"views.local_size ({views['local_size']}) is larger than views.global_size ({views['global_size']})."
        )
    for name in ("global_size", "local_size"):
        if views[name] > crop:
            raise UserError(
                f"views.{name} is {views[name]} pixels, larger than crops.size ({crop})."
            )
        if isinstance(patch, int) and views[name] % patch:
            raise UserError(
                f"views.{name} is {views[name]} pixels, which the network's patches of {patch} do not divide."
            )
        if 3 * views["blur"] >= views[name]:
            raise UserError(
                f"views.blur ({views['blur']} pixels) is too strong for views.{name} ({views[name]}); "
                "three times the blur must be less than the view."
            )


def _check_trainings(config: dict[str, Any]) -> None:
    """Refuse batches that cannot be split evenly, schedules longer than the training, and terms without controls."""
    for name in ("pretrain", "adapt"):
        batch, parts = config[name]["batch_size"], config[name]["accumulate"]
        gpus = config["compute"]["gpus"] * config["compute"]["nodes"]
        if batch % (parts * gpus):
            raise UserError(
                f"{name}.batch_size ({batch}) cannot be cut into equal parts: {parts} ({name}.accumulate) on each "
                f"of {gpus} GPUs (compute.gpus on each of compute.nodes)."
            )
    for name in ("pretrain", "adapt", "classify", "supervise"):
        epochs = config[name]["epochs"]
        for key in ("warmup_epochs", "frozen_epochs"):
            if config[name].get(key, 0) >= epochs:
                raise UserError(
                    f"{name}.{key} ({config[name][key]}) is not less than {name}.epochs ({epochs}); lower it."
                )

    if config["adapt"]["hold_moments"] and config["choose"]["labelled"]:
        raise UserError(
            "choose.labelled leaves out the DMSO wells, without which there is no adapt.hold_moments; set it "
            "to false, or switch off what needs them."
        )


def _check_methods(config: dict[str, Any]) -> None:
    """Resolve the methods, and refuse those whose requirements the rest of the config does not meet."""
    config["methods"] = chosen_methods(config["methods"])
    config["figures"]["after"] = shown_after(config["methods"], config["figures"]["after"])
    if config["harmonise"]["rescale"]:
        for source in taking_part(config):
            if config["sources"][source]["um_per_pixel"] is None:
                raise UserError(
                    f"harmonise.rescale needs sources.{source}.um_per_pixel; state it, or set harmonise.rescale "
                    "to false."
                )
    consensus = "coda_consensus" if config["consensus"]["aligned"] else None
    needing = [
        name
        for name in config["methods"]
        if COMPOSED[name].needs_dmso or COMPOSED[name].adaptation == consensus
    ]
    if needing and config["choose"]["labelled"]:
        raise UserError(
            f"choose.labelled leaves out the DMSO wells that {', '.join(needing)} (methods) need; "
            "set it to false or remove them (a consensus also does without: consensus.aligned)."
        )
    if "oracle" in config["methods"]:
        for source in config["target_sources"]:
            if config["sources"][source]["validation_plate"] is None:
                raise UserError(
                    f"The method oracle trains on {source}, so it needs sources.{source}.validation_plate."
                )


def taking_part(config: dict[str, Any]) -> list[str]:
    """Names of all sources to train on or to adapt to; with a pack, which has been trained, the latter alone."""
    if config["pack"]:
        return sorted(config["target_sources"])
    return sorted({*config["train_sources"], *config["target_sources"]})


def pairs(config: dict[str, Any]) -> list[tuple[str, str]]:
    """All pairs of a training source and another target source."""
    return [(a, b) for a in config["train_sources"] for b in config["target_sources"] if a != b]


def network_settings(
    config: dict[str, Any], classifier: str | None = None, supervised: bool = False
) -> dict[str, Any]:
    """What it takes to build trained networks again.

    With the depth of the classifier of a section; with the supervised network beside the others, if asked for.
    """
    model = {key: config["model"][key] for key in ("architecture", "options")}
    settings = {"model": model, "image_size": config["views"]["global_size"]}
    if classifier == "supervise":
        settings |= supervised_network(config)
    elif supervised and (own := supervised_network(config)):
        settings["supervised"] = own
    return settings | ({"depth": config[classifier]["depth"]} if classifier else {})


def supervised_network(config: dict[str, Any]) -> dict[str, Any]:
    """Give the section ``model`` of the supervised baseline, where it is not the transformer of the others."""
    name = config.get("supervised_network")  # a pack's config has no supervised baseline
    model = {"architecture": name, "options": {}, "weights": "random", "convolutional": True}
    return {"model": model} if name else {}


def pixel_sizes(config: dict[str, Any], raw: bool = False) -> dict[str, float]:
    """Um per pixel of the crops of each source that takes part, or of its `raw` images.

    Where it is unknown, the mean of the known ones; 1 where none is known, so that frequencies are per pixel.
    """
    common = None if raw else config["crops"]["um_per_pixel"]
    sizes = {
        name: common or config["sources"][name]["um_per_pixel"] for name in taking_part(config)
    }
    known = [size for size in sizes.values() if size]
    usual = sum(known) / len(known) if known else 1.0
    return {name: size or usual for name, size in sizes.items()}
