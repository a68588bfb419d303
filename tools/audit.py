"""Check the locked packages for known vulnerabilities: python tools/audit.py requirements.lock.

Exits with 1 if there are any. If the database of vulnerabilities cannot be reached, it says that nothing was checked
and exits with 0.
"""

import json
import subprocess
import sys


def verdict(report: str) -> tuple[int, str]:
    """Read the JSON report of pip-audit; return exit status and message."""
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
