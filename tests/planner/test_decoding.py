"""What is said of decoding samples: the real decoder on tensors without memory, beside what there is while it really decodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import nn

from helpers.official_models import CHANNELS, TABLES, video_module
from helpers.training_runs import write_run
from helpers.whole_models import split, unified
from ltxcore.config.load import load_run
from ltxcore.models.base import base_of, released
from ltxcore.planner.advice import remedies
from ltxcore.planner.costs import cost, told
from ltxcore.planner.decoding import DTYPE, RELEASED, decoding, largest, video_vae_of
from ltxcore.planner.estimate import Estimator
from ltxcore.planner.largest_batch import shapes_of
from ltxcore.runs.run_plan import Outline, draft
from planner.measured import alive, sizes

CELLS = (3, 4, 6)
MODELS = {"2.0": "ltx-2-19b", "2.3": "ltx-2.3-22b", "2.5": "ltx-2.5-22b"}
DRAWN = {"video": {"is_generated": True, "latents_dir": "latents"}}


@pytest.mark.slow
def test_decoding_takes_what_is_said() -> None:
    decoder: nn.Module = video_module("2.3").decoder.to(DTYPE)
    weights = sum(each.numel() * each.element_size() for each in decoder.state_dict().values())
    before, seen = sizes(alive()), [0]

    def look(module: nn.Module, inputs: Any, outputs: Any) -> None:
        seen.append(sum(size for key, size in sizes(alive()).items() if key not in before))

    for module in decoder.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_hook(look)
    with torch.no_grad():
        decoder(torch.zeros(1, CHANNELS, *CELLS, dtype=DTYPE))
    assert len(seen) > 10
    # Between two convolutions an activation and a normalisation have tensors of their own, which nothing but themselves sees.
    assert 1 <= (decoding(decoder, CHANNELS, CELLS) - weights) / max(seen) < 1.6


@pytest.mark.parametrize("generation", RELEASED)
def test_the_video_vae_of_a_released_model_is_known_without_its_file(generation: str, tmp_path: Path) -> None:
    from diffusers import AutoencoderKLLTX2Video

    found, base = planned(tmp_path, {}, model=MODELS[generation])
    vae = video_vae_of(found, base)
    with torch.device("meta"):
        own = AutoencoderKLLTX2Video(**TABLES["video_vae"][generation]["diffusers_config"])
    assert {name: each.shape for name, each in vae.state_dict().items()} == {name: each.shape for name, each in own.state_dict().items()}


def planned(folder: Path, paths: dict[str, Path], *, model: str | None = None, **tables: Any) -> tuple[Outline, Any]:
    """A run of `paths` of `[model]`, or of a released model by its name."""
    (folder / "media.jsonl").touch()
    run = {
        "output_dir": str(folder / "out"),
        "model": {"model_path": "tiny-untrained", **{key: str(path) for key, path in paths.items()}},
        "lora": {"rank": 2, "target_modules": ["attn1.to_q"]},
        "training_strategy": {"name": "flexible", **DRAWN},
        "optimization": {"steps": 2, "batch_size": 1, "enable_gradient_checkpointing": True},
        "data": {"dataset": str(folder / "media.jsonl")},
        **tables,
    }
    loaded = load_run(write_run(folder, run))
    base = base_of(loaded.config.model.model_path) if model is None else released(model)
    return draft(loaded, 1, writes=False, base=base, here=False).checked(), base


SAMPLES = {
    "video_dims": [1024, 512, 17],
    "samples": [{"prompt": "a disc"}],
}


def test_the_largest_of_what_is_decoded_at_once_counts(tmp_path: Path) -> None:
    without, _ = planned(tmp_path, {}, model="ltx-2.3-22b")
    assert largest(without, (128, 4, 20, 10), tiles=False) == (4, 20, 10)
    assert largest(without, (128, 4, 20, 10), tiles=True) == (4, 16, 10)
    drawn, _ = planned(tmp_path, {}, model="ltx-2.3-22b", validation=SAMPLES)
    assert largest(drawn, (128, 4, 64, 64), tiles=False) == (3, 16, 32)  # what is generated anew are the samples, not the data
    assert largest(drawn, (128, 4, 64, 64), tiles=True) == (3, 16, 16)


def test_the_tiny_codec_takes_next_to_nothing(tmp_path: Path) -> None:
    found, base = planned(tmp_path, {}, validation=SAMPLES)
    assert Estimator(found, base, shapes_of(found, base, "64x64x17")).decoding(found.loaded.config) == 0


def test_a_model_without_its_video_vae_decodes_nothing_and_one_elsewhere_is_taken_for_the_released(tmp_path: Path) -> None:
    paths = split(tmp_path)
    del paths["video_vae_path"]
    found, base = planned(tmp_path, paths)
    assert video_vae_of(found, base) is None
    config = found.loaded.config
    elsewhere = attrs.evolve(config, model=attrs.evolve(config.model, video_vae_path=tmp_path / "far.safetensors"))
    vae = video_vae_of(attrs.evolve(found, loaded=attrs.evolve(found.loaded, config=elsewhere)), base)
    assert vae.decoder.conv_in.conv.in_channels == 128


def test_where_decoding_takes_most_it_is_said_and_pieces_are_advised(tmp_path: Path) -> None:
    paths = unified(tmp_path)
    found, base = planned(tmp_path, paths, validation=SAMPLES)
    estimator = Estimator(found, base, shapes_of(found, base, "64x64x9"))
    config = found.loaded.config
    need = estimator.need(config, 1)
    states = need.states
    assert need.device == need.drawing == states.weights + states.optimizer + need.decoding
    room = attrs.evolve(config, acceleration=attrs.evolve(config.acceleration, offload_optimizer_during_validation=True))
    assert estimator.need(room, 1).drawing == states.weights + need.decoding
    tiled = attrs.evolve(config, acceleration=attrs.evolve(config.acceleration, vae_tiling=True))
    smaller = estimator.need(tiled, 1)
    assert smaller.decoding < need.decoding
    (remedy,) = (each for each in remedies(estimator, config, 1, smaller.with_margin) if "vae_tiling" in each.said[0])
    assert (remedy.said, remedy.need) == (("acceleration.vae_tiling = true",), smaller)

    said = cost(found.loaded, 1, 80 * 2**30, bucket="64x64x9")
    rows = dict(row for _, part in told(said) for row in part)
    assert rows["decoding of samples"]
    assert rows["peak"].endswith(", as samples are decoded")
