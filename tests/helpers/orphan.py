"""A stand-in for Snakemake that can be killed without its job."""

# Starts the command behind it as Snakemake starts a job, and waits for it.
SNAKEMAKE = ["sh", "-c", 'export CODA_RUN=$$; "$@" & wait', "snakemake"]
