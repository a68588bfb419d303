"""The HTML report and the machine-readable record of a run."""
