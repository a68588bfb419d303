import pytest
import torch
from coda.errors import UserError
from coda.training.checkpoints import read_header, save_weights
from coda.training.interpolation import interpolate_foundations, interpolated
from safetensors.torch import load_file


def weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (5, 7), "b": (3,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_the_ends_are_the_foundations_to_the_bit_and_between_them_is_a_line():
    one, two = weights(0), weights(1)
    for share, wanted in ((0.0, one), (1.0, two)):
        found = interpolated(one, two, share)
        assert all(torch.equal(found[name], wanted[name]) for name in one)
    quarter = interpolated(one, two, 0.25)
    for name in one:
        plain = 0.75 * one[name].double() + 0.25 * two[name].double()
        torch.testing.assert_close(quarter[name].double(), plain, rtol=1e-6, atol=1e-7)


def test_the_file_says_what_it_lies_between(tmp_path):
    paths = [str(tmp_path / f"{name}.safetensors") for name in ("one", "two", "between")]
    for number in range(2):
        save_weights(paths[number], weights(number), {"what": f"number {number}"})
    interpolate_foundations(paths[0], paths[1], 0.5, paths[2])
    header = read_header(paths[2])
    assert header["what"] == "number 1" and header["share"] == 0.5
    assert header["interpolated_from"] == {"what": "number 0"}
    one, two = (load_file(path)["a"] for path in paths[:2])
    torch.testing.assert_close(load_file(paths[2])["a"], (one + two) / 2)


def test_other_shapes_and_shares_are_refused():
    with pytest.raises(UserError, match="from 0 to 1, not 1.5"):
        interpolated(weights(0), weights(1), 1.5)
    with pytest.raises(UserError, match="not of the same shape"):
        interpolated(weights(0), {"a": torch.zeros(5, 7)}, 0.5)
