import numpy as np
import pytest
import torch
from coda.training.settings import ViewSettings
from coda.training.views import ViewDraw, centre_view, draw_view, make_view, standardise

PLAIN = ViewSettings(photometric=0.0)


def sites_of(count=6, channels=3, height=40, width=50, seed=0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator
    )


def draws(count, channels, settings, seed=0, **options) -> ViewDraw:
    return draw_view(count, channels, settings, torch.Generator().manual_seed(seed), **options)


def by_numpy(site: np.ndarray, draw: ViewDraw, number: int, size: int) -> np.ndarray:
    """One view in float64, the plain way: cut, flip, change, standardise."""
    channels, height, width = site.shape
    top = int(draw.corner[number, 0].numpy() * np.float32(height - size + 1))
    left = int(draw.corner[number, 1].numpy() * np.float32(width - size + 1))
    view = site[:, top : top + size, left : left + size].astype(np.float64) / 255
    if draw.flip[number, 0]:
        view = view[:, ::-1]
    if draw.flip[number, 1]:
        view = view[:, :, ::-1]
    shift, gamma = draw.shift[number].double().numpy(), draw.gamma[number].double().numpy()
    view = np.clip(view + shift[:, None, None], 0, 1) ** gamma[:, None, None]
    mean, deviation = view.mean(axis=(1, 2), keepdims=True), view.std(axis=(1, 2), keepdims=True)
    return (view - mean) / (deviation + 1e-6)


@pytest.mark.parametrize(
    "settings", [PLAIN, ViewSettings(photometric=1.0, shift=0.05, gamma=0.3, gamma_limit=0.5)]
)
def test_view_equals_a_plain_calculation_in_float64(settings):
    sites, draw = sites_of(), draws(6, 3, settings)
    views = make_view(sites, draw, 16, settings)
    for number in range(6):
        assert (
            np.abs(views[number].numpy() - by_numpy(sites[number].numpy(), draw, number, 16)).max()
            < 2e-5
        )


def test_each_channel_of_each_view_is_standardised():
    view = make_view(sites_of(), draws(6, 3, ViewSettings()), 24, ViewSettings())
    assert view.mean(dim=(2, 3)).abs().max() < 1e-5
    assert (view.std(dim=(2, 3), correction=0) - 1).abs().max() < 1e-4


def test_a_blank_channel_gives_zeros_not_nan():
    sites = sites_of()
    sites[:, 1] = 77
    view = make_view(sites, draws(6, 3, ViewSettings()), 24, ViewSettings())
    assert torch.isfinite(view).all()
    assert view[:, 1].abs().max() < 1.0


def test_windows_reach_every_corner_and_never_leave_the_site():
    height, width, size, count = 20, 23, 16, 4000
    rows = torch.arange(height).view(1, 1, height, 1).expand(1, 1, height, width)
    columns = torch.arange(width).view(1, 1, 1, width).expand(1, 1, height, width)
    sites = torch.cat([rows, columns], dim=1).to(torch.uint8).expand(count, -1, -1, -1)
    draw = draws(count, 2, PLAIN)
    from coda.training.views import _cut_exact

    cut = (_cut_exact(sites, draw, size) * 255).round().long()
    tops, lefts = cut[:, 0].amin(dim=(1, 2)), cut[:, 1].amin(dim=(1, 2))
    assert set(tops.tolist()) == set(range(height - size + 1))
    assert set(lefts.tolist()) == set(range(width - size + 1))
    assert (cut[:, 0].amax(dim=(1, 2)) - tops == size - 1).all()
    assert torch.bincount(tops).min() > count / (height - size + 1) * 0.8


def test_flips_mirror_each_axis_half_of_the_time():
    draw = draws(8000, 1, ViewSettings())
    assert (draw.flip.float().mean(dim=0) - 0.5).abs().max() < 0.03
    both = (draw.flip[:, 0] & draw.flip[:, 1]).float().mean()
    assert abs(both - 0.25) < 0.03


def test_intensity_changes_have_the_protocols_statistics():
    draw = draws(20_000, 3, ViewSettings())
    changed = draw.shift[:, 0] != 0
    assert abs(changed.float().mean() - 0.5) < 0.02
    assert abs(draw.shift[changed].std() - 0.005) < 2e-4
    assert draw.gamma.min() >= 0.995 and draw.gamma.max() <= 1.005
    assert (draw.gamma[~changed] == 1).all()
    correlation = torch.corrcoef(draw.shift[changed].T)
    assert (correlation - torch.eye(3)).abs().max() < 0.05  # channel by channel


def test_local_views_keep_their_intensities_by_default():
    draw = draws(500, 3, ViewSettings(), is_global=False)
    assert (draw.shift == 0).all() and (draw.gamma == 1).all()
    strong = draws(500, 3, ViewSettings(photometric_local=True), is_global=False)
    assert (strong.shift != 0).any()


def test_a_views_position_does_not_depend_on_the_image():
    one = draws(50, 3, ViewSettings(), seed=3)
    two = draws(50, 3, ViewSettings(), seed=3)
    assert all(
        torch.equal(a, b) for a, b in zip(vars(one).values(), vars(two).values(), strict=True)
    )


def test_parts_of_a_batch_are_the_same_views():
    sites, draw = sites_of(8), draws(8, 3, ViewSettings())
    whole = make_view(sites, draw, 16, ViewSettings())
    part = make_view(sites[3:6], draw.part(slice(3, 6)), 16, ViewSettings())
    assert torch.equal(whole[3:6], part)


def test_gain_and_offset_of_a_channel_cancel():
    sites = (sites_of() // 2).to(torch.uint8)
    brighter = (sites * 2).to(torch.uint8)
    draw = draws(6, 3, PLAIN)
    one, two = (make_view(x, draw, 16, PLAIN) for x in (sites, brighter))
    assert (one - two).abs().max() < 1e-3


def test_scale_changes_what_a_view_covers():
    ramp = torch.arange(64, dtype=torch.float32).mul(3).to(torch.uint8)
    sites = ramp.view(1, 1, 1, 64).expand(400, 1, 64, 64).contiguous()
    settings = ViewSettings(photometric=0.0, flip=0.0, scale=1.25)
    draw = draws(400, 1, settings)
    from coda.training.views import _cut_scaled

    cut = _cut_scaled(sites, draw, 32) * 255
    step = (cut[:, 0, 0, -1] - cut[:, 0, 0, 0]) / 31 / 3
    assert torch.allclose(step, draw.zoom, atol=0.02)
    assert draw.zoom.min() < 0.85 and draw.zoom.max() > 1.2
    assert abs(draw.zoom.log().mean()) < 0.02


def test_scale_of_one_pixel_equals_the_exact_cut():
    from coda.training.views import _cut_exact, _cut_scaled

    sites = sites_of(4, 2, 32, 32)
    draw = draws(4, 2, PLAIN)
    draw = ViewDraw(**{**vars(draw), "corner": torch.zeros(4, 2)})
    assert (_cut_scaled(sites, draw, 16) - _cut_exact(sites, draw, 16)).abs().max() < 1e-4


def test_blur_equals_scipys():
    from coda.training.views import _blur
    from scipy.ndimage import gaussian_filter

    view = torch.rand(3, 2, 24, 24, dtype=torch.float64)
    deviation = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)
    blurred = _blur(view, deviation, 2.0)
    for number in range(3):
        for channel in range(2):
            expected = gaussian_filter(
                view[number, channel].numpy(), float(deviation[number]), mode="mirror", radius=6
            )
            assert np.abs(blurred[number, channel].numpy() - expected).max() < 1e-12


def test_dropped_channels_are_blank_and_never_all_of_them():
    settings = ViewSettings(drop_channel=0.9)
    draw = draws(3000, 4, settings)
    assert draw.keep.sum(dim=1).min() >= 1
    assert draw.keep.mean() < 0.4
    view = make_view(sites_of(6, 4), draws(6, 4, settings), 16, settings)
    blank = view.abs().amax(dim=(2, 3)) == 0
    assert torch.equal(blank, draws(6, 4, settings).keep == 0)


def test_noise_is_in_units_of_the_view():
    settings = ViewSettings(photometric=0.0, noise=0.5)
    torch.manual_seed(0)
    view = make_view(sites_of(), draws(6, 3, settings), 24, settings)
    assert (view.std(dim=(2, 3), correction=0) - 1).abs().max() < 1e-4
    plain = make_view(sites_of(), draws(6, 3, settings), 24, PLAIN)
    assert 0.7 < torch.corrcoef(torch.stack([view.flatten(), plain.flatten()]))[0, 1] < 0.999


def test_centre_view_is_the_middle():
    sites = sites_of(2, 1, 20, 30)
    assert torch.allclose(
        centre_view(sites, 10), standardise(sites[:, :, 5:15, 10:20].float() / 255)
    )
