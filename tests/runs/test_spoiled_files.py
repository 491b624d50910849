"""Whatever a run refuses of its model files and LoRAs, `ltx check` finds from headers in the same words, and nothing is encoded before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cli.test_cli_real_models import dataset
from helpers.sampling import asked, sampled
from helpers.spoiled_files import LORAS, OF_GGUF, OF_LORAS, PARTS, SPOILERS, TARGETS, copied, make
from helpers.whole_models import unified
from ltxcore.config.load import load_run
from ltxcore.config.render import document
from ltxcore.errors import LtxError
from ltxcore.models import TINY_BASE
from ltxcore.runs.checks import check_run
from ltxcore.train.start_run import run

OF_MODELS = [
    (layout, part, way) for layout, parts in PARTS.items() for part in parts for way in (OF_GGUF if layout == "GGUF" else SPOILERS)
]
TYPES = {"DoRA": "dora", "LoKr": "lokr", "LoHa": "loha"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return {layout: make(layout, tmp_path_factory.mktemp("models")) for layout in asked(request, "layout")}


def run_file(folder: Path, clips: Path, model: Mapping[str, Any], **changed: Any) -> Path:
    generated = {name: {"is_generated": True, "latents_dir": source} for name, source in (("video", "latents"), ("audio", "audio_latents"))}
    told = {
        "output_dir": str(folder / "out"),
        "model": dict(model),
        "lora": {"rank": 2, "alpha": 2, "target_modules": list(TARGETS)},
        "training_strategy": {"name": "flexible", **generated},
        "optimization": {"steps": 1, "batch_size": 1},
        "preprocessing": {"resolution_buckets": "64x64x17"},
        "data": {"dataset": str(clips), "preprocessed_data_root": str(folder / "encoded"), "held_out": 0},
        **changed,
    }
    path = folder / "run.toml"
    path.write_text(document(told))
    return path


def refused(path: Path) -> str:
    """What `ltx check` and `ltx run` say, which must be the same, before anything is written."""
    said = []
    for carry_out in (check_run, run):
        with pytest.raises(LtxError) as error:
            carry_out(load_run(path))
        said.append(str(error.value))
    assert said[0] == said[1]
    assert sorted(each.name for each in path.parent.iterdir() if each.name in ("out", "encoded")) == []
    return said[0]


@pytest.mark.parametrize(
    ("layout", "part", "way"), sampled(OF_MODELS, 6, lambda case: {case[0], case[2]} | ({case[1]} & {"connectors", "text encoder"}))
)
def test_a_spoiled_model_is_refused_by_a_check_as_by_a_run(
    layout: str, part: str, way: str, made: Mapping[str, Path], clips: Path, tmp_path: Path
) -> None:
    model = copied(layout, made[layout], tmp_path / "models")
    file, among = PARTS[layout][part]
    (OF_GGUF if layout == "GGUF" else SPOILERS)[way](tmp_path / "models" / file, among)
    said = refused(run_file(tmp_path, clips, model))
    assert str(tmp_path / "models" / file).partition(".safetensors")[0].rpartition("/")[0] in said


def test_a_model_that_is_not_spoiled_passes(clips: Path, tmp_path: Path) -> None:
    make("separate files", tmp_path / "models")
    check_run(load_run(run_file(tmp_path, clips, {"model_path": str(tmp_path / "models" / "parts")})))


def with_lora(folder: Path, clips: Path, key: str, kind: str) -> tuple[Path, Path]:
    """A LoRA, and a run file that names it."""
    lora = folder / "their.safetensors"
    save_file(LORAS[kind](), lora)
    type = {"type": TYPES[kind]} if kind in TYPES and key == "load_checkpoint" else {}
    run = run_file(
        folder,
        clips,
        {"model_path": "tiny-untrained", key: [str(lora)] if key == "loras" else str(lora)},
        training_strategy={"name": "flexible", "video": {"is_generated": True, "latents_dir": "latents"}},
        lora={"rank": 4, "alpha": 4, "target_modules": list(TARGETS), **type},
    )
    return lora, run


@pytest.mark.parametrize("way", sampled(SPOILERS, 2))
def test_a_spoiled_checkpoint_to_train_on_is_refused_by_a_check_as_by_a_run(way: str, clips: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    start.write_bytes(TINY_BASE.read_bytes())
    SPOILERS[way](start, "transformer_blocks.0.attn1.to_q.")
    strategy = {"name": "flexible", "video": {"is_generated": True, "latents_dir": "latents"}}
    model = {"model_path": "tiny", "training_mode": "full", "load_checkpoint": str(start)}
    assert str(start) in refused(run_file(tmp_path, clips, model, training_strategy=strategy, lora={}))


LORA_OF_CONNECTORS = {
    f"diffusion_model.video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q.{end}": torch.ones(shape)
    for end, shape in (("lora_A.weight", (2, 64)), ("lora_B.weight", (64, 2)))
}


def test_a_lora_of_text_connectors_is_trained_on_top_of_only_where_text_passes_through_it(clips: Path, tmp_path: Path) -> None:
    model = {key: str(path) for key, path in unified(tmp_path / "models").items()}
    lora = tmp_path / "connectors.safetensors"
    save_file(LORA_OF_CONNECTORS, lora)
    buckets = {"resolution_buckets": "64x64x17"}
    on_top = {"loras": [str(lora)]}
    targets = {"rank": 2, "alpha": 2, "target_modules": ["attn1.to_q"]}
    check_run(load_run(run_file(tmp_path, clips, {**model, **on_top}, lora=targets)))
    said = refused(run_file(tmp_path, clips, {**model, **on_top}, lora=targets, preprocessing={**buckets, "connector_outputs": True}))
    assert f"stores text that has passed through the text connectors without the changes that {lora} makes to them" in said
    said = refused(run_file(tmp_path, clips, {**model, "load_checkpoint": str(lora)}, lora=targets))
    assert f"{lora}: 1 adapter is for the text connectors, which are neither trained nor exported" in said


OF_LORA_FILES = [(key, kind, way) for key in ("loras", "load_checkpoint") for kind in LORAS for way in OF_LORAS]


@pytest.mark.parametrize(("key", "kind", "way"), sampled(OF_LORA_FILES, 9, lambda case: case))
def test_a_spoiled_lora_is_refused_by_a_check_as_by_a_run(key: str, kind: str, way: str, clips: Path, tmp_path: Path) -> None:
    lora, path = with_lora(tmp_path, clips, key, kind)
    OF_LORAS[way](lora, "")
    assert str(lora) in refused(path)


# A LoKr or LoHa is trained further only with the keys that it was trained with, which these files do not state.
@pytest.mark.parametrize(("key", "kind"), [("loras", kind) for kind in LORAS] + [("load_checkpoint", kind) for kind in ("kohya", "DoRA")])
def test_a_lora_that_is_not_spoiled_passes(key: str, kind: str, clips: Path, tmp_path: Path) -> None:
    check_run(load_run(with_lora(tmp_path, clips, key, kind)[1]))
