"""The workflow as a part of another one, as the documentation shows it."""

import re
import subprocess
import sys

import pandas as pd
import pytest
from places import ROOT

(EXAMPLE,) = re.findall(
    r"```python module\n(.*?)```", (ROOT / "docs/changing.md").read_text(), re.S
)


@pytest.mark.slow
def test_another_workflow_uses_this_one_as_a_module(tmp_path):
    (tmp_path / "coda").symlink_to(ROOT)
    (tmp_path / "Snakefile").write_text(EXAMPLE)
    (tmp_path / "config.yaml").write_text((ROOT / "config/tiny.yaml").read_text())
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "plates.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(tmp_path / "plates.csv")) >= 2
    assert (tmp_path / "results/tiny/plan.txt").exists()
