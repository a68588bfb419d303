"""Look the locked packages up in the database of known vulnerabilities: python tools/audit.py requirements.lock.

Ends with 1 if one is known. Where the database cannot be reached it says so and ends with 0: that is no fault
of the packages, and no clean bill either.
"""

import json
import subprocess
import sys


def verdict(report: str) -> tuple[int, str]:
    """Read pip-audit's JSON: the exit status, and the verdict in words."""
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        packages = []
    looked_up = [package for package in packages if "vulns" in package]
    if not looked_up:
        return 0, "The packages were NOT audited: the database of vulnerabilities was not reached."
    known = [
        f"{package['name']} {package['version']}: {fault['id']}, "
        f"mended in {', '.join(fault['fix_versions']) or 'no version yet'}"
        for package in looked_up
        for fault in package["vulns"]
    ]
    skipped = len(packages) - len(looked_up)
    words = f"{len(looked_up)} packages audited, {skipped} could not be; {len(known)} known vulnerabilities."
    return bool(known), "\n".join([*known, words])


if __name__ == "__main__":
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--requirement", sys.argv[1],
         "--format", "json", "--progress-spinner", "off"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    status, text = verdict(done.stdout)
    print(text)
    sys.exit(status)
