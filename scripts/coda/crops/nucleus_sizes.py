"""Sizes of nuclei tell whether a stated pixel size can be right."""

import pandas as pd

from coda.columns import SITE_KEYS, source_name, sources_in_order

# Between cell lines and stains, median areas differ less than between a 20x and a 40x objective (by 4).
UNLIKELY = 2.0
KIND = "pixel size"


def check_pixel_sizes(
    sites: pd.DataFrame, pixel_sizes: dict[str, float], training: list[str]
) -> pd.DataFrame:
    """Find sources whose nuclei differ so much from those of the training sources that a pixel size must be wrong.

    Parameters
    ----------
    sites
        One row a site of all plates, with Metadata_Source and ``Quality_NucleusArea`` (pixels of the raw image).
    pixel_sizes
        Um per pixel of the raw images of each source.
    training
        The training sources.

    Returns
    -------
    pandas.DataFrame
        One row a source whose median area is `UNLIKELY` times that of the training sources or more, or as much less:
        `SITE_KEYS` as far as they are known, ``kind`` (`KIND`) and ``message``.
    """
    # Of crops that were cut elsewhere nothing is measured.
    measured = sites.reindex(columns=["Metadata_Source", "Quality_NucleusArea"])
    pixels = measured.groupby("Metadata_Source")["Quality_NucleusArea"].median().dropna()
    areas = pixels * pd.Series(pixel_sizes).reindex(pixels.index) ** 2
    usual = areas.reindex(training).median()
    rows = []
    for source in sources_in_order(areas.index):
        ratio = areas[source] / usual
        if max(ratio, 1 / ratio) >= UNLIKELY:
            message = (
                f"nuclei of {source_name(source)} cover {pixels[source]:,.0f} pixels, by its pixel size of "
                f"{pixel_sizes[source]:g} um {areas[source]:,.0f} square um, those of the training sources "
                f"{usual:,.0f}: sources.{source}.um_per_pixel or its magnification cannot be right"
            )
            rows.append({"Metadata_Source": source, "kind": KIND, "message": message})
    return pd.DataFrame(rows, columns=[*SITE_KEYS, "kind", "message"], dtype=object)
