"""Two references on one modality, each from a column of its own: from the dataset to what the LoRA generates."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import save_file

from helpers.raw_media import clip_file, dataset_file
from helpers.training_runs import tables, write_run
from ltxcore.cli.main import main
from ltxcore.condition_metadata import REFERENCES
from ltxcore.config.load import load_run
from ltxcore.encode.buckets import Bucket
from ltxcore.encoded.manifest import read_manifest
from ltxcore.errors import ConfigError
from ltxcore.models.lora_stack import Strength
from ltxcore.planner.largest_batch import of_bucket
from ltxcore.runs.checks import check_run
from ltxcore.runs.read_run import read_run, sample_command
from ltxcore.runs.run_plan import draft
from ltxcore.sample.generate import factors_of
from ltxcore.train.start_run import run

POSE, DEPTH = {"type": "reference", "latents_dir": "pose"}, {"type": "reference", "latents_dir": "depth"}
SMALL = {"reference_downscale_factor": "2", "reference_spatial_scale_factor": "2", "reference_temporal_scale_factor": "2"}
RECORDED = [{"modality": "video", **POSE}, {"modality": "video", **DEPTH, **SMALL}]


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    """A run on clips with a pose of their size, and a depth of half their size with half of their frames."""
    rows = []
    for index in range(3):
        row = {"video": f"clips/{index}.mp4", "pose": f"pose/{index}.mp4", "far": f"depth/{index}.mp4"}
        for at, path in enumerate(row.values()):
            clip_file(tmp_path / path, sound=False, seed=3 * at + index, frames=17)
        rows.append({**row, "caption": f"clip {index}"})
    columns = {
        "pose": {"type": "reference_video"},
        "depth": {"type": "reference_video", "column": "far", "downscale_factor": 2, "temporal_scale_factor": 2},
    }
    table: dict[str, Any] = tables(
        tmp_path,
        tmp_path / "out",
        model={"model_path": "tiny"},
        training_strategy={"video": {"is_generated": True, "latents_dir": "latents", "conditions": [POSE, DEPTH]}},
        lora={"target_modules": ["attn1.to_q"]},
        optimization={"steps": 1, "batch_size": 2},
        validation={"skip_initial_validation": True, "interval": 0, "inference_steps": 2},
        preprocessing={"resolution_buckets": "64x64x17", "skip_audio": True, "columns": columns},
    )
    del table["training_strategy"]["audio"]
    table["data"] = {"dataset": str(dataset_file(tmp_path / "set.jsonl", rows)), "held_out": 1, "num_dataloader_workers": 0}
    return write_run(tmp_path, table)


def test_a_run_is_trained_on_both_and_generates_with_both(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, folder = load_run(run_file), run_file.parent
    outline = draft(loaded).checked()
    expected = of_bucket(outline, outline.base, Bucket(64, 64, 17)).roles
    assert check_run(loaded).notes
    outcome = run(loaded)
    manifest = read_manifest(outline.root, outline.strategy.sources())
    for role, shape in (("video.cond0.reference", (128, 3, 2, 2)), ("video.cond1.reference", (128, 2, 1, 1))):
        assert {entry.shape for entry in manifest.entries[role].values()} == {expected[role]} == {shape}
    with safe_open(outcome.weights, "pt") as lora:
        said = lora.metadata()
    assert json.loads(said[REFERENCES]) == RECORDED
    assert not SMALL.keys() & said.keys()

    record = read_run(folder / "out")
    assert record.weights is not None
    words = shlex.split(sample_command(record, record.weights))
    asked = [each for each in words if each.startswith("type=")]
    assert asked == ["type=reference,video=POSE.mp4", "type=reference,video=DEPTH.mp4,downscale_factor=2,temporal_scale_factor=2"]
    monkeypatch.chdir(folder)
    (folder / "POSE.mp4").write_bytes((folder / "pose/0.mp4").read_bytes())
    (folder / "DEPTH.mp4").write_bytes((folder / "depth/0.mp4").read_bytes())
    done = CliRunner().invoke(main, [*words[1:], "--video-dims", "64x64x17", "--inference-steps", "2"])
    assert (done.exit_code, (folder / "sample.mp4").is_file()) == (0, True), done.output
    other = [word.replace("temporal_scale_factor=2", "temporal_scale_factor=1") for word in words]
    refused = CliRunner().invoke(main, [*other[1:], "--video-dims", "64x64x17", "--overwrite"])
    assert "has downscale_factor = 2, temporal_scale_factor = 1, but the LoRA was trained with" in refused.output


def test_factors_that_do_not_fit_the_bucket_are_told_at_the_key_of_their_column(run_file: Path) -> None:
    loaded = load_run(run_file, ["preprocessing.columns.depth.temporal_scale_factor=3"])
    with pytest.raises(ConfigError) as error:
        check_run(loaded)
    assert (
        "preprocessing.columns.depth.temporal_scale_factor: the bucket 64x64x17 has 17 frames, and columns.depth.temporal_scale_factor 3 does not"
        in str(error.value)
    )


def lora(folder: Path, name: str, **metadata: str) -> Strength:
    save_file({}, folder / name, metadata=metadata)
    return Strength(folder / name)


def test_two_loras_are_used_together_if_they_were_trained_with_references_of_the_same_sizes(tmp_path: Path) -> None:
    several = lora(tmp_path, "several", references=json.dumps(RECORDED))
    same = lora(tmp_path, "same", **SMALL)
    assert factors_of([same, several]) == {REFERENCES: json.dumps(RECORDED)}
    with pytest.raises(ConfigError) as error:
        factors_of([several, lora(tmp_path, "other", reference_downscale_factor="4")])
    assert "other: was trained with references of other sizes than another LoRA" in str(error.value)
    with pytest.raises(ConfigError) as error:
        factors_of([lora(tmp_path, "broken", references="[")])
    assert "broken: the factors of references in the metadata of this LoRA cannot be read" in str(error.value)
