"""Views: random crops of a batch of sites, cut and changed on the device, from 8 bit to standardised.

Every random number of a view but added noise is drawn per sample, on the CPU, from a generator that the
training step seeds. So views do not depend on the device, nor on how a batch is split over processes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from coda.errors import UserError
from coda.training.settings import ViewSettings

EPSILON = 1e-6


@dataclass(frozen=True)
class ViewDraw:
    """The random numbers of one view for a batch of N samples with C channels.

    Attributes
    ----------
    corner : float, shape (N, 2)
        Row and column of the window as shares of the room there is, in [0, 1).
    flip : bool, shape (N, 2)
        Whether rows and columns are mirrored.
    zoom : float, shape (N,)
        Pixels of the site that one pixel of the view covers.
    shift, gamma : float, shape (N, C)
        Added to intensities in 0..1, and the exponent that follows.
    blur : float, shape (N,)
        Standard deviation of the blur in pixels.
    noise : float, shape (N,)
        Standard deviation of the noise in units of the view's.
    keep : float, shape (N, C)
        0 for a dropped channel, else 1.
    """

    corner: torch.Tensor
    flip: torch.Tensor
    zoom: torch.Tensor
    shift: torch.Tensor
    gamma: torch.Tensor
    blur: torch.Tensor
    noise: torch.Tensor
    keep: torch.Tensor

    def part(self, samples: slice) -> "ViewDraw":
        """Give the numbers of some of the samples."""
        return ViewDraw(*(value[samples] for value in vars(self).values()))

    def to(self, device: torch.device) -> "ViewDraw":
        """Bring the numbers to `device` without waiting."""
        return ViewDraw(*(value.to(device, non_blocking=True) for value in vars(self).values()))


def draw_view(
    samples: int,
    channels: int,
    settings: ViewSettings,
    generator: torch.Generator,
    is_global: bool = True,
) -> ViewDraw:
    """Draw the random numbers of one view for `samples` samples of `channels` channels."""

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    changed = uniform(samples, 1) < settings.photometric
    if not (is_global or settings.photometric_local):
        changed = torch.zeros_like(changed)
    limit = settings.gamma_limit
    gamma = (1 + settings.gamma * normal(samples, channels)).clamp(1 - limit, 1 + limit)
    # A dropped channel never stands alone: one channel of each view is always kept.
    kept = uniform(samples, channels)
    kept = (kept >= settings.drop_channel) | (kept == kept.amax(dim=1, keepdim=True))
    return ViewDraw(
        corner=uniform(samples, 2),
        flip=uniform(samples, 2) < settings.flip,
        zoom=settings.scale ** (2 * uniform(samples) - 1),
        shift=torch.where(changed, settings.shift * normal(samples, channels), 0.0),
        gamma=torch.where(changed, gamma, 1.0),
        blur=settings.blur * uniform(samples),
        noise=settings.noise * uniform(samples),
        keep=kept.float(),
    )


def check_sizes(
    settings: ViewSettings,
    side: int,
    network: nn.Module,
    names: tuple[str, ...] = ("global_size", "local_size"),
) -> None:
    """Refuse views that cannot be cut from crops of `side` pixels, or cut into patches by `network`.

    Raises
    ------
    UserError
        With the key of the first size in `names` that does not fit.
    """
    # A convolutional network has no patches.
    patch = network.patch_embed.patch_size[0] if hasattr(network, "patch_embed") else 1
    for name in names:
        size = getattr(settings, name)
        if size > side:
            raise UserError(f"views.{name} is {size} pixels, larger than the crops ({side}).")
        if size % patch:
            raise UserError(
                f"views.{name} is {size} pixels, which the network's patches of {patch} do not divide; "
                f"make it {size // patch * patch or patch} or {(size // patch + 1) * patch}."
            )


def make_view(
    sites: torch.Tensor, draw: ViewDraw, size: int, settings: ViewSettings
) -> torch.Tensor:
    """Cut one view from each site and standardise it.

    Parameters
    ----------
    sites : uint8 or float32 tensor, shape (N, C, H, W)
        Grey values of 0 to 255, on any device; `draw` must be on the same one.
    draw
        Random numbers for the N sites.
    size
        Side of the view in pixels, at most H and W.
    settings
        Which of the changes are in use at all, so that the unused ones cost nothing.

    Returns
    -------
    float32 tensor, shape (N, C, size, size)
        Each channel of each view has mean 0 and standard deviation 1.
    """
    view = _cut_exact(sites, draw, size) if settings.scale == 1 else _cut_scaled(sites, draw, size)
    view = (view + draw.shift[:, :, None, None]).clamp(0, 1) ** draw.gamma[:, :, None, None]
    if settings.blur:
        view = _blur(view, draw.blur, settings.blur)
    view = standardise(view)
    if settings.noise:
        view = standardise(view + draw.noise[:, None, None, None] * torch.randn_like(view))
    if settings.drop_channel:
        view = view * draw.keep[:, :, None, None]
    return view


def standardise(view: torch.Tensor) -> torch.Tensor:
    """Give each channel of each view mean 0 and standard deviation 1 (float tensor, N x C x H x W)."""
    mean = view.mean(dim=(2, 3), keepdim=True)
    deviation = (view - mean).square().mean(dim=(2, 3), keepdim=True).sqrt()
    return (view - mean) / (deviation + EPSILON)


def centre_view(sites: torch.Tensor, size: int) -> torch.Tensor:
    """Cut the centre of each site, of grey values 0 to 255, and standardise it: what evaluation looks at."""
    height, width = sites.shape[2:]
    top, left = (height - size) // 2, (width - size) // 2
    return standardise(sites[:, :, top : top + size, left : left + size].float() / 255)


def _cut_exact(sites: torch.Tensor, draw: ViewDraw, size: int) -> torch.Tensor:
    """Cut windows of exact pixels, mirrored where `draw` says so, as floats in 0..1."""
    count, _, height, width = sites.shape
    steps = torch.arange(size, device=sites.device)
    backwards = size - 1 - steps
    room = torch.tensor([height - size + 1, width - size + 1], device=sites.device)
    corner = (draw.corner * room).long()
    rows = corner[:, :1] + torch.where(draw.flip[:, :1], backwards, steps)
    columns = corner[:, 1:] + torch.where(draw.flip[:, 1:], backwards, steps)
    numbers = torch.arange(count, device=sites.device)
    # Indexed with channels last, so that one gather fetches all channels of a pixel's window.
    cut = sites[numbers[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2).float() / 255


def _cut_scaled(sites: torch.Tensor, draw: ViewDraw, size: int) -> torch.Tensor:
    """Cut windows of `size` x zoom pixels and bring them to `size` by bilinear interpolation."""
    height, width = sites.shape[2:]
    zoom = draw.zoom.clamp(max=(min(height, width) - 1) / size)
    span = torch.stack([zoom * (size - 1)] * 2, dim=1)
    edge = torch.tensor([height - 1, width - 1], device=sites.device)
    centre = span / 2 + draw.corner * (edge - span)
    centre = 2 * centre / edge - 1
    extent = span / edge * torch.where(draw.flip, -1.0, 1.0)
    zero = torch.zeros_like(zoom)
    # affine_grid works in (x, y): columns first.
    across = torch.stack([extent[:, 1], zero, centre[:, 1]], dim=1)
    down = torch.stack([zero, extent[:, 0], centre[:, 0]], dim=1)
    grid = F.affine_grid(
        torch.stack([across, down], dim=1), [len(sites), 1, size, size], align_corners=True
    )
    return F.grid_sample(sites.float() / 255, grid, align_corners=True, padding_mode="border")


def _blur(view: torch.Tensor, deviation: torch.Tensor, largest: float) -> torch.Tensor:
    """Blur each view with its own Gaussian, reflecting at the borders."""
    count, channels, height, width = view.shape
    radius = max(1, round(3 * largest))
    offsets = torch.arange(-radius, radius + 1, device=view.device, dtype=view.dtype)
    kernel = torch.exp(-0.5 * (offsets / deviation[:, None].clamp(min=1e-3)) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    kernel = kernel.repeat_interleave(channels, dim=0)[:, None, :]
    flat = view.reshape(1, count * channels, height, width)
    flat = F.conv2d(
        F.pad(flat, (0, 0, radius, radius), mode="reflect"),
        kernel[:, :, :, None],
        groups=count * channels,
    )
    flat = F.conv2d(
        F.pad(flat, (radius, radius, 0, 0), mode="reflect"),
        kernel[:, :, None, :],
        groups=count * channels,
    )
    return flat.reshape(view.shape)
