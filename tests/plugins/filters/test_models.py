"""Depth and segmentation with models from a folder: what the model says, pixel by pixel, and folders that cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoImageProcessor, GLPNForDepthEstimation, SegformerForSemanticSegmentation

from helpers.raw_media import pictures
from helpers.vision_models import LABELS, depth_model, segmentation_model
from ltxcore.api import ConfigError
from ltxcore.api.commands import find_plugin
from ltxplugins.filters.models import Depth, Label, Segmentation, class_color


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    depth_model(folder / "depth")
    segmentation_model(folder / "segmentation")
    return folder


CLIP = list(pictures(frames=6, height=64, width=96).frames)


def inputs(folder: Path) -> Any:
    return AutoImageProcessor.from_pretrained(folder)(images=[frame.numpy() for frame in CLIP], return_tensors="pt")


def classes(folder: Path) -> torch.Tensor:
    """The class of each pixel, from the model's logits."""
    with torch.no_grad():
        logits = SegformerForSemanticSegmentation.from_pretrained(folder).eval()(**inputs(folder)).logits
    small = torch.nn.functional.interpolate(logits, (32, 32), mode="bilinear").argmax(dim=1)
    rows, columns = ((torch.arange(count) + 0.5) * 32 / count for count in (64, 96))
    return small[:, rows.long()][:, :, columns.long()]


def test_what_is_near_is_white_and_what_is_far_is_black(models: Path) -> None:
    with torch.no_grad():
        far = GLPNForDepthEstimation.from_pretrained(models / "depth").eval()(**inputs(models / "depth")).predicted_depth
    assert far.shape == (6, 64, 96)  # the frames are multiples of 32, so that nothing was resized
    wanted = 255 * (far.max() - far) / (far.max() - far.min())
    made = torch.stack(list(Depth(path=models / "depth", metric=True)(iter(CLIP))))
    assert made.shape == (6, 64, 96, 3)
    assert (made.amin(), made.amax()) == (0, 255)
    assert (made[..., 0].float() - wanted).abs().max() <= 0.51
    near = torch.stack(list(Depth(path=models / "depth")(iter(CLIP))))
    assert (made.int() + near.int() - 255).abs().max() <= 1


def test_all_classes_of_a_name_count(models: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(models / "segmentation", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "wall", "1": "sky", "2": "sky"}
    (folder / "config.json").write_text(json.dumps(config))
    made = torch.stack(list(Label(path=folder, label="sky")(iter(CLIP))))
    assert (made == 0).all(dim=-1).equal(classes(models / "segmentation") > 0)


def test_a_class_has_a_color_of_its_own(models: Path) -> None:
    wanted = classes(models / "segmentation")
    assert len(wanted.unique()) > 1
    made = torch.stack(list(Segmentation(path=models / "segmentation")(iter(CLIP))))
    assert made.equal(torch.tensor([class_color(number) for number in range(3)], dtype=torch.uint8)[wanted])


def test_the_colors_of_classes_are_those_of_pascal_voc() -> None:
    first = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128), (64, 0, 0)]
    assert [class_color(number) for number in range(9)] == first
    assert class_color(255) == (224, 224, 192)
    assert len({class_color(number) for number in range(256)}) == 256


def test_the_pixels_of_a_label_are_generated(models: Path) -> None:
    found = classes(models / "segmentation")
    for names in (LABELS[:1], LABELS[1:]):
        made = torch.stack(list(Label(path=models / "segmentation", label="; ".join(names))(iter(CLIP))))
        wanted = torch.isin(found, torch.tensor([LABELS.index(name) for name in names]))
        assert (made == 0).all(dim=-1).equal(wanted)


def refused(text: str) -> list[tuple[str, str, str]]:
    with pytest.raises(ConfigError) as error:
        find_plugin("reference_filter", text, where="--filter", keys=True)
    return [(problem.where, problem.what, problem.remedy) for problem in error.value.problems]


def test_a_folder_without_the_right_model_is_refused_before_any_clip(models: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/config.json").write_text(
        '{"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}, "architectures": ["Mine"]}'
    )
    wanted = "Name the folder that contains config.json, the weights and the settings of the processor."
    for text, told in (
        ("depth", ("--filter depth: path", "is missing", "Add path: a path, folder of the model, as transformers saves it.")),
        (f"depth,path={tmp_path}/none", (f"--filter depth,path={tmp_path}/none: path", f"there is no folder {tmp_path}/none", "Paths are relative to the working directory.")),
        (f"depth,path={tmp_path}", (f"--filter depth,path={tmp_path}: path", f"{tmp_path} contains no model: it has no config.json", wanted)),
        (
            f"depth,path={models}/segmentation",
            (
                f"--filter depth,path={models}/segmentation: path",
                f"the model in {models}/segmentation is of the class SegformerForSemanticSegmentation; the class must be ...ForDepthEstimation of the installed transformers",
                "Name a model of this kind.",
            ),
        ),
        (
            f'label,path={models}/segmentation,label="persn;sky"',
            (f'--filter label,path={models}/segmentation,label="persn;sky": label', 'the model has no class "persn"', 'Did you mean "person"?'),
        ),
    ):  # fmt: skip
        assert refused(text) == [told]
    ((place, what, remedy),) = refused(f"segmentation,path={tmp_path}/own")
    assert place == f"--filter segmentation,path={tmp_path}/own: path"
    assert what.startswith(f"the config.json in {tmp_path}/own cannot be used: ")
    assert remedy == "Name a model that the installed transformers supports without code from the folder."
