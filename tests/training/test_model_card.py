import re
from pathlib import Path

import numpy as np
import pytest
import torch
from coda.crops.store import CropStore
from coda.training.checkpoints import read_header
from coda.training.model_card import images_of, write_card
from coda.training.networks import load_foundation
from coda.training.settings import ModelSettings
from coda.training.views import centre_view
from small_training import SETTINGS, outputs_in, train


def outputs_with_card(folder: Path) -> dict[str, str]:
    return outputs_in(folder) | {"card": str(folder / "model_card.md")}


@pytest.fixture(scope="module")
def folders(tiny_plates, tmp_path_factory) -> tuple[Path, Path]:
    """Folders of a pretrained foundation and of an adapted one."""
    first, second = (tmp_path_factory.mktemp(name) for name in ("pretrained", "adapted"))
    train(first, tiny_plates, outputs=outputs_with_card(first), images="From a gallery.")
    start = outputs_in(first)["networks"]
    outputs = outputs_with_card(second)
    train(second, tiny_plates[2:], start=start, validation=(), outputs=outputs)
    return first, second


@pytest.mark.parametrize("number", [0, 1])
def test_what_the_card_says_loads_the_foundation_with_timm(
    folders, number, tiny_plates, monkeypatch
):
    folder = folders[number]
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "model_card.md").read_text(), re.DOTALL)
    monkeypatch.chdir(folder)  # the card names the file beside it
    names = {}
    exec(compile(code, "model_card.md", "exec"), names)
    store, size = CropStore(tiny_plates), SETTINGS["views"]["global_size"]
    crops = torch.from_numpy(store.gather(np.arange(8)))
    edge = (store.height - size) // 2
    loaded = names["tokens"](crops[:, :, edge : edge + size, edge : edge + size])
    pipeline = load_foundation(
        str(folder / "foundation.safetensors"), ModelSettings(**SETTINGS["model"]), 2, size
    )
    with torch.inference_mode():
        expected = pipeline.forward_features(centre_view(crops, size))
    assert loaded.shape == (8, 1 + 16, 32) and torch.allclose(loaded, expected, atol=1e-5)


def test_the_card_says_what_the_header_knows(folders, tiny_plates):
    text, adapted = ((folder / "model_card.md").read_text() for folder in folders)
    header = read_header(folders[0] / "foundation.safetensors")
    assert "source_1: b1p1, b1p2, b2p1" in text and "channels DNA, ER" in text
    assert f"- knn_accuracy: {header['results']['knn_accuracy']:.4g}" in text
    assert f"Seed 3, epoch {header['epoch']} of 2" in text and "From a gallery." in text
    assert f"{header['data']['sites']:,} crops" in text and "batch_size: 8" in text
    assert "Adapted without labels" in adapted and "trained on source_1 b1p1, b1p2, b2p1" in adapted
    assert "knn_accuracy" not in adapted
    assert re.search(r"[{}]\w", re.sub(r"```.*?```", "", text, flags=re.DOTALL)) is None


def test_options_are_written_as_python_reads_them_and_no_pixel_size_is_made_up(folders, tmp_path):
    header = read_header(folders[0] / "foundation.safetensors")
    header["settings"]["model"]["options"] = {"qkv_bias": True, "norm_layer": None}
    header["data"]["um_per_pixel"] = None
    write_card(tmp_path / "card.md", "foundation.safetensors", header)
    text = (tmp_path / "card.md").read_text()
    assert "**{'qkv_bias': True, 'norm_layer': None}" in text and "pixel size not known" in text


def test_simulated_images_are_called_simulated():
    assert "simulated" in images_of({"simulation": {"seed": 4}})
    assert images_of({"gallery": {"root": "s3://b/p"}}) == "The images come from s3://b/p."
