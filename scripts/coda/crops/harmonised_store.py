"""Crops that come harmonised: filtered once they are on the device, while the files stay as they are."""

import os
from collections.abc import Sequence

import numpy as np
import torch

from coda.crops.harmonisation import Harmoniser, load_harmonisations
from coda.crops.store import CropStore
from coda.errors import UserError
from coda.provenance import file_checksum


class HarmonisedStore(CropStore):
    """The crops of a target's plates, harmonised.

    Parameters
    ----------
    paths
        Store files, as for `CropStore`.
    filters
        The plates' filters, as `coda.crops.harmonisation.save_harmonisations` writes them. Crops of other plates,
        such as the training source's, come as they are.

    Raises
    ------
    UserError
        If the filters are for other channels.
    """

    def __init__(self, paths: Sequence[str | os.PathLike], filters: str):
        super().__init__(paths)
        self.filters = filters
        self._harmonisations = {
            (each.source, each.plate): each for each in load_harmonisations(filters)
        }
        for each in self._harmonisations.values():
            if each.channels != self.channels:
                raise UserError(
                    f"{filters} is for the channels {each.channels}, but the crops have {self.channels}; "
                    "remove it and make it again."
                )
        keys = self.table[["Metadata_Source", "Metadata_Plate"]]
        self._plates = list(keys.itertuples(index=False, name=None))
        self._harmoniser: Harmoniser | None = None

    def __reduce__(self):
        """Pickle as paths, as `CropStore` does."""
        return HarmonisedStore, (self.paths, self.filters)

    def checksums(self) -> dict[str, str]:
        """Checksums of the store files and of the filters."""
        return super().checksums() | {self.filters: file_checksum(self.filters)}

    def enough(self, side: int) -> tuple[int, int]:
        """Whole crops: a filter changes the centre by what lies around it."""
        return self.height, self.width

    def on_device(self, crops: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Filter uint8 crops (..., C, H, W) of the rows (...), each by the filter of its plate; float32, 0 to 255."""
        if self._harmoniser is None:
            self._harmoniser = Harmoniser(self._harmonisations, crops.device)
        plates = [self._plates[row] for row in rows.reshape(-1)]
        return self._harmoniser(crops.flatten(0, -4), plates).reshape(crops.shape)
