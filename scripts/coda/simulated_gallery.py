"""Where the simulation puts its gallery and the public tables that it imitates."""

GALLERY = "cellpainting-gallery/cpg0016-jump"
# By the tables' names in the config.
TABLES = {
    "plate": "plate.csv.gz",
    "well": "well.csv.gz",
    "compound": "compound.csv.gz",
    "platemap": "JUMP-Target-2_compound_platemap.tsv",
    "target_compounds": "JUMP-Target-2_compound_metadata.tsv",
    "drugs": "repurposing_drugs_20200324.txt",
}


def simulated_places(results: str) -> tuple[str, dict[str, str]]:
    """Give the root of the gallery simulated below `results`, and the places of its tables."""
    made = f"{results.rstrip('/')}/gallery"
    tables = {name: f"{made}/tables/{file}" for name, file in TABLES.items()}
    return f"{made}/{GALLERY}", tables
