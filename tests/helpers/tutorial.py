"""The tutorial's commands, word for word and in their order, in a copy of the workflow."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from places import ROOT

PAGE = (ROOT / "docs/tutorial.md").read_text()
# Whether it is marked as long, and the commands.
BLOCKS = re.findall(r"(<!-- long: .*? -->\n)?```bash\n(.*?)```", PAGE, re.S)
COMMANDS = [commands for _, commands in BLOCKS]
ACTIVATE = ". .venv/bin/activate\n"
# The first blocks end with a whole run of the workflow.
RUN = (
    COMMANDS.index("snakemake --configfile config/tiny.yaml --workflow-profile profiles/cpu\n") + 1
)


def copy_workflow(folder: Path) -> None:
    """Copy what a newcomer gets, with an environment already set up."""
    unwanted = shutil.ignore_patterns(
        ".*", "results", "__pycache__", "tests", "benchmarks", "site", "node_modules"
    )
    shutil.copytree(ROOT, folder, ignore=unwanted)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/activate").write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')


def follow(folder: Path, blocks: list[tuple[str, str]]) -> list[str]:
    """Give what each block said; steps marked as long are left out, the environment stands in for them."""
    said = []
    for long, commands in blocks:
        if long:
            said.append("")
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", ACTIVATE + commands],  # each in a shell of its own
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{commands}\n{done.stdout[-6000:]}"
        said.append(done.stdout)
    return said
