"""A pixel size that cannot be right is told by the nuclei."""

import numpy as np
import pandas as pd
from coda.crops.nucleus_sizes import KIND, check_pixel_sizes


def sites_of(**areas):
    """Nine sites a source, nuclei of about so many pixels."""
    random = np.random.default_rng(0)
    rows = [
        {"Metadata_Source": source, "Quality_NucleusArea": area * random.uniform(0.9, 1.1)}
        for source, area in areas.items()
        for _ in range(9)
    ]
    return pd.DataFrame(rows)


def test_nuclei_of_another_magnification_are_told():
    sites = sites_of(source_11=730, my_lab=2550)
    sizes = {"source_11": 0.598, "my_lab": 0.598}
    table = check_pixel_sizes(sites, sizes, ["source_11"])
    assert table[["Metadata_Source", "kind"]].to_numpy().tolist() == [["my_lab", KIND]]
    assert "sources.my_lab.um_per_pixel or its magnification" in table["message"][0]
    # At the pixel size of a 40x objective the same nuclei are as large as the others.
    assert check_pixel_sizes(sites, sizes | {"my_lab": 0.32}, ["source_11"]).empty
    assert len(check_pixel_sizes(sites, sizes | {"my_lab": 0.1}, ["source_11"])) == 1


def test_fields_without_nuclei_or_without_dna_say_nothing():
    sites = sites_of(source_3=700, my_lab=5000).assign(Quality_NucleusArea=float("nan"))
    for table in (sites, sites[["Metadata_Source"]]):
        assert check_pixel_sizes(table, {"source_3": 0.6, "my_lab": 0.6}, ["source_3"]).empty
