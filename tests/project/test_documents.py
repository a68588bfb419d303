import re
import runpy
import tomllib

import yaml
from places import ROOT

README = (ROOT / "README.md").read_text()


def pins(lines) -> dict[str, str]:
    return dict(line.split("==") for line in lines if re.fullmatch(r"[\w-]+==\S+", line))


def test_the_page_on_the_config_is_in_step_with_the_schema():
    tool = runpy.run_path(str(ROOT / "tools/config_readme.py"))
    assert (ROOT / "config/README.md").read_text() == tool["page"]()


def test_conda_environments_have_the_pins_of_the_requirements():
    required = pins((ROOT / "requirements.txt").read_text().split())
    required |= pins((ROOT / "requirements-nodeps.txt").read_text().split())
    for path in (ROOT / "envs").glob("*.yaml"):
        if path.stem == "deepprofiler":  # a world of its own
            continue
        packages = yaml.safe_load(path.read_text())["dependencies"][-1]["pip"]
        for name, version in pins(packages).items():
            assert required[name] == version, f"{path.name}: {name}"


FILES = [path.read_text() for path in sorted((ROOT / "rules").glob("*.smk"))]
RULES = "\n".join(FILES)
# Each rule, and what stands between its first line and the next statement that is not indented as deep.
BLOCKS = {
    match[2]: match[3]
    for text in FILES
    for match in re.finditer(
        r"^( *)(?:rule|checkpoint) (\w+):\n(.*?)(?=^\1\S|\Z)", text, re.M | re.S
    )
}


def test_every_rule_has_a_script_of_its_name():
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert scripts == set(BLOCKS) and len(scripts) > 30
    for name, text in BLOCKS.items():
        assert f'"../scripts/{name}.py"' in text


def test_every_rule_file_says_what_it_needs_and_gives():
    for path in (ROOT / "rules").glob("*.smk"):
        opening = path.read_text().split('"""')[1]
        assert path.stem == "common" or ("\nNeeds: " in opening and "\nGives" in opening), path


def test_a_rule_that_uses_another_hands_it_what_its_script_reads():
    used = re.findall(r"^use rule (\w+) as (\w+) with:\n(.*?)(?=^\S|\Z)", RULES, re.M | re.S)
    assert used
    for base, name, block in used:
        assert base in BLOCKS and name not in BLOCKS, name
        if "    input:" not in block:
            continue
        # Inputs are replaced as a whole, so the script must find all of its own again.
        script = (ROOT / f"scripts/{base}.py").read_text()
        wanted = set(re.findall(r"snakemake\.input\.(\w+)", script)) - {"get"}
        assert wanted <= set(re.findall(r"^        (\w+)=", block.split("output:")[0], re.M)), name


def test_what_runs_again_with_new_code_and_what_does_not():
    """Plates, terabytes of verified bytes, are not fetched again; everything else depends on its code."""
    without = {name for name, text in BLOCKS.items() if f'code=code("{name}")' not in text}
    assert without == {"download_plate"}
    for path in (ROOT / "profiles").glob("*/config.yaml"):
        # Snakemake's own trigger is the time of the script, which a corrected word changes too.
        triggers = yaml.safe_load(path.read_text())["rerun-triggers"]
        assert set(triggers) == {"mtime", "params", "input", "software-env"}, path


def test_the_readme_names_only_files_that_are_there():
    for name in re.findall(r"\]\(([\w./-]+)\)", README) + re.findall(
        r"`((?:config|profiles|rules|scripts)/[\w./]+)`", README
    ):
        assert (ROOT / name).exists(), name


def test_pages_name_only_files_that_are_there():
    for page in [ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        text = page.read_text()
        linked = [page.parent / name for name in re.findall(r"\]\(([\w./-]+)\)", text)]
        named = re.findall(
            r"`((?:config|envs|profiles|rules|scripts|tools|tests|benchmarks|docs)/[\w./-]+)`", text
        )
        for path in [*linked, *(ROOT / name for name in named)]:
            assert path.exists(), f"{page.name}: {path.name}"


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == project
    assert f"## {project}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_page_of_benchmarks_is_in_step_with_their_results():
    tool = runpy.run_path(str(ROOT / "tools/benchmarks_readme.py"))
    assert (ROOT / "benchmarks/README.md").read_text() == tool["page"]()


def test_the_readme_is_short():
    prose = re.sub(r"^```.*?^```", "", README, flags=re.M | re.S)
    assert len(prose.split()) <= 700
    pictures = re.findall(r"!\[[^]]+\]\((docs/images/[\w-]+\.\w+)\)", README)
    assert "docs/images/method.svg" in pictures and len(pictures) >= 3
    # No sentence is a paragraph; links and code count as a word.
    plain = re.sub(r"!?\[([^]]*)\]\([^)]*\)|`[^`]*`", "word", prose.split("## Citation")[0])
    sentences = [line for line in re.split(r"[.:?!]\s|\n\n|\|", plain) if line]
    assert max(len(sentence.split()) for sentence in sentences) <= 32


def test_pictures_of_the_documentation_are_small():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs/images").rglob("*.*")}
    assert {name: size for name, size in sizes.items() if size > 200_000} == {}


def test_every_rule_is_on_the_page_of_outputs_and_no_other():
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    names = set(re.findall(r"^ *(?:rule|checkpoint|use rule \w+ as) (\w+)", rules, re.M))
    rows = re.findall(r"^\|.*\|([^|]*)\|$", (ROOT / "docs/outputs.md").read_text(), re.M)
    assert set(re.findall(r"`(\w+)`", "".join(rows))) == names


def test_every_setting_on_the_page_of_changes_exists():
    schema = yaml.safe_load((ROOT / "config/schema.yaml").read_text())
    rows = re.findall(r"^\|.*\|([^|]*)\|$", (ROOT / "docs/changing.md").read_text(), re.M)
    for key in re.findall(r"`([a-z_]+(?:\.[\w<>]+)*)(?::[^`]*)?`", "".join(rows)):
        part = schema
        for name in key.split("."):
            part = part["additionalProperties" if name.startswith("<") else "properties"]
            part = part if name.startswith("<") else part[name]
