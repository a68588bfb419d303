"""Where things are: the project, its parts, and the public reference data beside it, if there."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
CONFIG = ROOT / "config"
REFERENCE = ROOT.parent / "shared/data"
JUMP_FIELD = REFERENCE / "real/jump_source1_A02_s1"
