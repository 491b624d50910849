"""Models of transformers in folders: what is loaded, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from helpers.vision_models import depth_model
from ltxcore.errors import ConfigError
from ltxcore.models.pretrained import Pretrained

DEPTH = ("ForDepthEstimation",)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return depth_model(tmp_path / "model")


def loaded(folder: Path) -> torch.nn.Module:
    model, _, device = Pretrained.find(folder, DEPTH).load("AutoImageProcessor")
    assert {parameter.device for parameter in model.parameters()} == {torch.device(device)}
    return model


def test_a_model_has_the_weights_of_its_folder_and_says_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    model = loaded(folder)
    assert capfd.readouterr().err.count("Loading weights") == 0
    assert logging.is_progress_bar_enabled()
    assert not model.training
    stored = load_file(folder / "model.safetensors")
    assert {name: tensor for name, tensor in model.state_dict().items() if not tensor.equal(stored.get(name, torch.zeros(0)))} == {}


def test_weights_that_lack_a_tensor_are_refused_and_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["head.head.0.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"the weights lack tensors of the model: head\.head\.0\.bias"):
        loaded(folder)


def test_damaged_weights_and_a_folder_without_a_processor_are_refused(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match="the model cannot be loaded"):
        loaded(folder)
    depth_model(folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="the model cannot be loaded"):
        loaded(folder)


def test_a_folder_of_another_kind_is_refused_by_its_configuration_alone(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert Pretrained.find(folder, DEPTH).architecture == "GLPNForDepthEstimation"
    with pytest.raises(ConfigError, match=r"is of the class GLPNForDepthEstimation; the class must be \.\.\.ForSemanticSegmentation"):
        Pretrained.find(folder, ("ForSemanticSegmentation",))
    with pytest.raises(ConfigError, match="there is no folder"):
        Pretrained.find(tmp_path / "none", DEPTH)
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"the config\.json in .* cannot be used"):
        Pretrained.find(folder, DEPTH)
