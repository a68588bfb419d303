"""The usual way to feed DINO: one PNG file a channel, PIL and torchvision, a worker process a core."""

from pathlib import Path

import numpy as np
import torch
from coda.crops.store import CropStore
from PIL import Image
from torchvision.transforms import v2


class Views(torch.utils.data.Dataset):
    """Reads the PNG files of a site and of a partner and cuts all views, one by one."""

    def __init__(self, folder: Path, size: dict, length: int):
        self.folder, self.size, self.length = folder, size, length
        views = size["views"]
        flips = [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
        self.cut_global = v2.Compose([v2.RandomCrop(views.global_size), *flips])
        self.cut_local = v2.Compose([v2.RandomCrop(views.local_size), *flips])

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int):
        globals_, locals_ = [], []
        for site in (number, number + 1):
            count = self.size["sites"]
            planes = [
                np.asarray(Image.open(self.folder / f"{site % count}_{channel}.png"))
                for channel in self.size["channels"]
            ]
            image = torch.from_numpy(np.stack(planes)).float() / 255
            globals_.append(self.finish(self.cut_global(image), change=True))
            half = self.size["views"].local_count // 2
            locals_ += [self.finish(self.cut_local(image), change=False) for _ in range(half)]
        return torch.stack(globals_), torch.stack(locals_)

    @staticmethod
    def finish(view: torch.Tensor, change: bool) -> torch.Tensor:
        if change and torch.rand(()) < 0.5:
            gamma = (1 + 0.005 * torch.randn(len(view), 1, 1)).clamp(0.995, 1.005)
            view = (view + 0.005 * torch.randn(len(view), 1, 1)).clamp(0, 1) ** gamma
        return (view - view.mean(dim=(1, 2), keepdim=True)) / (
            view.std(dim=(1, 2), keepdim=True) + 1e-6
        )


def png_batches(store: CropStore, size: dict, folder: Path, workers: int, batches: int):
    """Write the store's sites as PNG files, then yield batches of global and local views."""
    for site in range(min(len(store), batches * size["batch"] + 1)):
        for channel, plane in zip(store.channels, store.view(site), strict=True):
            Image.fromarray(plane).save(folder / f"{site}_{channel}.png", compress_level=1)
    loader = torch.utils.data.DataLoader(
        Views(folder, size, batches * size["batch"]), batch_size=size["batch"], num_workers=workers
    )
    for global_views, local_views in loader:
        yield global_views.transpose(0, 1).flatten(0, 1), local_views.transpose(0, 1).flatten(0, 1)
