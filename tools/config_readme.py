"""Write config/README.md from config/schema.yaml: every key with its type, default and description."""

import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from coda.methods import ADAPTATIONS, ALIGNMENTS, COMPOSED, METHODS, PROBES

FOLDER = Path(__file__).parents[1] / "config"
OPENING = """# Config

<!-- Written by tools/config_readme.py from schema.yaml; to change this page, edit schema.yaml and run the tool. -->

All settings of the workflow, with their defaults. To find the setting for a purpose, see
[docs/changing.md](../docs/changing.md).

| file | content |
|---|---|
| config.yaml | the paper's configuration: four labs, every pair; always loaded first |
| pair.yaml | a first run on real plates: the two labs of the paper with the fewest plates |
| target2.yaml | all sources with Target-2 plates, every pair |
| demo.yaml | the demo: three simulated labs and a small transformer, minutes without a GPU |
| demo_own.yaml | after the demo: its pack, used on a plate of a fourth lab |
| tiny.yaml | for tests: every stage in seconds, with meaningless results |
| schema.yaml | the type, default and description of every key; unknown keys are rejected |

Your own config only needs the keys that differ. It is merged into `config.yaml`:
`snakemake --configfile mine.yaml ...`. You can also change a key on the command line: `--config 'adapt={epochs: 100}'`.
Defaults are those of the paper unless a description says otherwise.
"""


def kind_of(schema: dict) -> str:
    """Describe the type of a value."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {kind_of(schema['items'])}"
    kinds = schema.get("type", "anything")
    return " or ".join([kinds] if isinstance(kinds, str) else kinds)


def rows_of(schema: dict, whole: dict, prefix: str = "") -> list[str]:
    """Make a table row for each key below `schema`; the keys of a section follow its own row."""
    rows = []
    for name, part in schema.get("properties", {}).items():
        if "$ref" in part:
            part = {**whole["$defs"][part["$ref"].split("/")[-1]], **part}
        key = f"{prefix}{name}"
        inner = part.get("additionalProperties")
        children = rows_of(part, whole, f"{key}.")
        if isinstance(inner, dict):
            children += rows_of(inner, whole, f"{key}.<source>.")
        default = "" if children or "default" not in part else f"`{as_yaml(part['default'])}`"
        kind = "section" if children else kind_of(part)
        rows.append(f"| `{key}` | {kind} | {default} | {part['description']} |")
        rows += children
    return rows


def as_yaml(value: object) -> str:
    """Write a value as in a config."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=1000)
        .removesuffix("\n")
        .removesuffix("\n...")
    )


METHODS_OPENING = """
## Methods

Each method answers a question. Those that see the target see its images, never its labels, except the oracle, which is
trained on the target's labels and counts on the held-out plate only. Aligned and sphered methods look at a whole plate
at once (transductive). Those that need DMSO wells do not depend on what else stands on the plate; where a plate has
none, their scores are empty, with the reason. Harmonised methods use DMSO wells too, or all wells where there are none.

| name | in figures | question | sees the target | needs DMSO wells |
|---|---|---|---|---|
"""
COMPOSING = """
### Other methods

A method is an adaptation, an alignment and a head, on images that are harmonised or not. A name joins them by `_`,
without an alignment where there is none and without the head where it is the task model: `coda_batch_aligned_dmso`,
`oda_linear_sphered`, `harmonised_coda_aligned_knn`. The parts may also be given by themselves: `methods: [unadapted,
{harmonised: true, adaptation: coda, alignment: dmso, head: linear}]`. A sphered head takes no alignment, as sphering
undoes it.

| part | value | in a name | in figures |
|---|---|---|---|
"""


def methods() -> str:
    """Make a table row for each method that answers a question, and for each part of a method."""
    answers = {True: "yes", False: ""}
    rows = [
        f"| `{name}` | {COMPOSED[name].label} | {question} | {answers[COMPOSED[name].adapts]} | "
        f"{answers[COMPOSED[name].needs_dmso]} |\n"
        for name, question in METHODS.items()
    ]
    aligned = {kind: "aligned" if kind == "all" else f"aligned_{kind}" for kind in ALIGNMENTS}
    adaptations = {"unadapted": "Unadapted", **ADAPTATIONS}
    parts = [("harmonised", "true", "harmonised", "harmonised")]
    parts += [("adaptation", name, name, words) for name, words in adaptations.items()]
    parts += [("alignment", kind, aligned[kind], words) for kind, words in ALIGNMENTS.items()]
    parts += [("head", "task_model", "", "")]
    parts += [("head", name, name, words) for name, words in PROBES.items()]
    table = [
        f"| {part} | `{value}` | {f'`{name}`' if name else ''} | {words} |\n"
        for part, value, name, words in parts
    ]
    return METHODS_OPENING + "".join(rows) + COMPOSING + "".join(table)


def page() -> str:
    """Make the whole page."""
    schema = yaml.safe_load((FOLDER / "schema.yaml").read_text())
    head = ["| key | type | default | description |", "|---|---|---|---|"]
    return "\n".join([OPENING, *head, *rows_of(schema, schema)]) + "\n" + methods()


if __name__ == "__main__":
    (FOLDER / "README.md").write_text(page())
