"""Every shipped profile: its words exist, its rules exist, and GPUs are asked for in the scheduler's own way."""

import ast
import dataclasses
import importlib.metadata
import re
import subprocess
import sys
import types

import pytest
import yaml
from places import ROOT
from snakemake.cli import get_argument_parser

PROFILES = {path.parent.name: path for path in sorted((ROOT / "profiles").glob("*/config.yaml"))}
RULES = {
    match[1]: match[2]
    for path in (ROOT / "rules").glob("*.smk")
    for match in re.finditer(
        r"^ *(?:rule|checkpoint) (\w+):\n(.*?)(?=^ *(?:rule|checkpoint|use rule) |\Z)",
        path.read_text(),
        re.M | re.S,
    )
}
# Rules that are others with inputs and outputs of their own, and so ask for the same resources.
HEIRS = {
    heir: rule
    for path in (ROOT / "rules").glob("*.smk")
    for rule, heir in re.findall(r"^ *use rule (\w+) as (\w+) with:", path.read_text(), re.M)
}
WITH_GPU = {name for name, body in RULES.items() if "gpu=" in body}
WITH_GPU |= {heir for heir, rule in HEIRS.items() if rule in WITH_GPU}
# The word of each executor that does not read the resource gpu.
OWN_WORD = {"lsf": "lsf_extra", "aws-batch": "_gpus"}


def read(name: str) -> dict:
    return yaml.safe_load(PROFILES[name].read_text())


def parts(name: str) -> tuple[set[str], set[str]]:
    """Split the keys of a profile: those of its executor, and Snakemake's own."""
    profile = read(name)
    own = {key for key in profile if key.startswith(f"{profile.get('executor', 'local')}-")}
    return own, set(profile) - own


@pytest.mark.parametrize("name", PROFILES)
def test_keys_are_options_of_snakemake(name):
    options = {word for action in get_argument_parser()._actions for word in action.option_strings}
    assert {f"--{key}" for key in parts(name)[1]} <= options


@pytest.mark.parametrize("name", PROFILES)
def test_a_job_that_fails_is_run_again_and_keeps_no_other_from_running(name):
    profile = read(name)
    assert profile["retries"] >= 2 and profile["keep-going"] is True


@pytest.mark.parametrize("name", [name for name in PROFILES if parts(name)[0]])
def test_keys_of_executors_are_settings_of_their_plugins(name):
    executor = read(name)["executor"]
    module = f"snakemake_executor_plugin_{executor.replace('-', '_')}"
    plugin = pytest.importorskip(module, reason=f"{module} is not installed", exc_type=ImportError)
    settings = {field.name for field in dataclasses.fields(plugin.ExecutorSettings)}
    own = {key.removeprefix(f"{executor}-").replace("-", "_") for key in parts(name)[0]}
    assert own <= settings


@pytest.mark.parametrize("name", PROFILES)
def test_rules_of_a_profile_exist(name):
    assert set(read(name).get("set-resources", {})) <= {*RULES, *HEIRS}


STORE = f"""
configfile: "{ROOT}/config/config.yaml"
include: "{ROOT}/rules/common.smk"
rule all:
    input: expand("done/{{n}}", n=range(7))
rule hold_images:
    output: "done/{{n}}"
    resources: image_store=1
    shell: "mkdir -p h; touch h/{{wildcards.n}}; sleep .5; ls h | wc -l >> seen; rm h/{{wildcards.n}}; touch {{output}}"
"""


@pytest.mark.parametrize(
    ("words", "most"),
    [
        (["--workflow-profile", str(ROOT / "profiles/cpu"), "--resources", "gpu=4"], 3),
        ([], 3),
        (["--resources", "image_store=1000"], 3),
        (["--resources", "image_store=2"], 2),
    ],
)
def test_plates_in_flight_bound_the_jobs_with_images_whatever_the_command_line_says(
    tmp_path, words, most
):
    """Jobs as those of a plate take the store; a lower limit given by hand counts, a higher one does not."""
    (tmp_path / "Snakefile").write_text(STORE)
    for name in ("scripts", "config"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--directory", str(tmp_path), "--snakefile", str(tmp_path / "Snakefile"),
         "--cores", "8", "--config", "gallery={plates_in_flight: 3}", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    seen = [int(line) for line in (tmp_path / "seen").read_text().split()]
    assert len(seen) == 7 and max(seen) <= most


def test_every_job_with_images_on_the_disk_takes_a_place_in_the_store():
    holding = {name for name, body in RULES.items() if re.search(r"\bimages=|threads: PLATE", body)}
    assert holding == {"download_plate", "estimate_illumination", "extract_crops"}
    assert {name for name, body in RULES.items() if "image_store=1," in body} == holding


def test_the_pins_of_plugins_are_those_of_the_requirements():
    pytest.importorskip("snakemake_executor_plugin_slurm")
    pins = (ROOT / "requirements-cluster.txt").read_text()
    assert "pip install --no-deps -r requirements-cluster.txt" in PROFILES["slurm"].read_text()
    for plugin in ("slurm", "slurm-jobstep"):
        version = importlib.metadata.version(f"snakemake-executor-plugin-{plugin}")
        assert f"snakemake-executor-plugin-{plugin}=={version} --hash" in pins


class Resources(dict):
    """Resources of a job as Snakemake gives them: by item and by attribute."""

    __getattr__ = dict.__getitem__


def test_the_example_of_a_training_on_two_nodes_asks_slurm_for_them():
    """What the plugin makes of the resources that docs/cluster.md shows."""
    submit = pytest.importorskip("snakemake_executor_plugin_slurm.submit_string")
    page = (ROOT / "docs/cluster.md").read_text()
    (example,) = (part for part in re.findall(r"```yaml\n(.*?)```", page, re.S) if "mpi:" in part)
    rules = yaml.safe_load(example)["set-resources"]
    assert rules.keys() <= WITH_GPU
    resources = Resources(gpu=8, mem_mb=16000)
    for name, value in rules["adapt_foundation"].items():
        # Snakemake evaluates text, so what is meant as such stands in quotes within quotes.
        quoted = isinstance(value, str) and value.startswith("'")
        resources[name] = ast.literal_eval(value) if quoted else value
    job = types.SimpleNamespace(resources=resources, threads=8)
    params = dict(
        run_uuid="x", slurm_logfile="x", comment_str="x", account="", partition="", workdir=None
    )
    from snakemake_executor_plugin_slurm.utils import set_gres_string

    command = (submit.get_submit_command(job, params) + set_gres_string(job)).split()
    asked = {"--nodes=2", "--ntasks=2", "--gpus=8", "--gpus-per-node=4", "--signal=TERM@120"}
    assert asked <= {*command}
    assert not [word for word in command if word.startswith("--ntasks-per-gpu")]
    assert {"--ntasks-per-node=1", "--kill-on-bad-exit=1"} <= {*resources.mpi.split()}


@pytest.mark.parametrize("rule", RULES)
def test_memory_and_time_of_every_rule_grow_with_its_tries(rule):
    assert re.search(r"mem_mb=growing\(\d+\)", RULES[rule])
    assert re.search(r"runtime=growing\(\d+\)", RULES[rule])


def test_gpus_of_a_training_are_one_setting_for_every_scheduler(tmp_path):
    """A dry run with compute.gpus 4: what each profile makes of it, without its executor."""
    words = {}
    for name, resource in OWN_WORD.items():
        for rule, resources in read(name)["set-resources"].items():
            words.setdefault(rule, {})[resource] = resources[resource]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"cores": 8, "set-resources": words}))
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path),
         "--configfile", str(ROOT / "config/config.yaml"), "--workflow-profile", str(tmp_path),
         "--config", "compute={gpus: 4}", "methods=[unadapted, coda, coda_aligned, supervised_tent, shuffled, oracle]",
         "experiments={run: [plates, online, compounds, mix]}", "--dry-run"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    blocks = re.findall(r"^rule (\w+):\n(.*?)(?=^\[|\Z)", done.stdout + done.stderr, re.M | re.S)
    resources = {rule: body.split("resources: ")[1].splitlines()[0] for rule, body in blocks}
    assert set(words) == WITH_GPU
    several = {"pretrain_foundation", "adapt_foundation"}
    assert several < WITH_GPU & set(resources), done.stderr[-2000:]
    for rule in WITH_GPU & set(resources):
        gpus = 4 if rule in several else 1
        given = resources[rule].split(", ")
        assert f"gpu={gpus}" in given and f"_gpus={gpus}" in given
        assert re.search(rf"lsf_extra=-gpu num={gpus}\b", resources[rule])
