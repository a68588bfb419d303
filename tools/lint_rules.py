"""Snakemake's linter, but for one of its opinions.

It wants every function of a rule file in a common module. Here an input function stands above the rule that calls
it, where a reader looks for it, and rules/common.smk holds what several files use.

    python tools/lint_rules.py --configfile config/demo.yaml
"""

import re
import subprocess
import sys

OTHERWISE = "Mixed rules and functions in same snakefile."
NOTHING = "Congratulations, your workflow is in a good condition!"


def faults(said: str) -> str:
    """Give what the linter said, without the one opinion; empty where nothing else is left."""
    parts = re.split(r"^(?=Lints for )", said, flags=re.M)[1:]
    kept = []
    for part in parts:
        heading, *lints = re.split(r"^(?=    \* )", part, flags=re.M)
        lints = [lint for lint in lints if not lint.strip().startswith(f"* {OTHERWISE}")]
        kept += [heading, *lints] if lints else []
    return "".join(kept)


def main(words: list[str]) -> int:
    """Lint, and give an exit status."""
    command = [sys.executable, "-m", "snakemake", "--lint", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    told = faults(said)
    # A Snakefile that cannot be read has no lints either.
    if told or ("Lints for " not in said and NOTHING not in said):
        print(told or said)
        return 1
    print("Snakemake's linter has nothing else to say.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
