"""What samples will be like once they are encoded, known from headers, is what they are once they are encoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from helpers.raw_media import clip_file
from helpers.training_runs import message, write_run
from ltxcore.cli.main import main
from ltxcore.codecs.source import Codecs
from ltxcore.config.load import load_run
from ltxcore.dataset.rows import read_dataset
from ltxcore.encode.encoding import encoding_as_far
from ltxcore.encode.survey import glance
from ltxcore.encoded.manifest import read_manifest
from ltxcore.errors import LtxError
from ltxcore.progress import bars
from ltxcore.runs.checks import check_run
from ltxcore.runs.foreseen import foreseen
from ltxcore.runs.run_plan import draft

STRATEGY = {
    "name": "flexible",
    "video": {
        "is_generated": True,
        "latents_dir": "latents",
        "conditions": [
            {"type": "mask", "mask_dir": "video_masks"},
            {"type": "reference", "latents_dir": "reference_latents"},
            {"type": "keyframes", "keyframes_dir": "keyframes"},
        ],
    },
    "audio": {"is_generated": True, "latents_dir": "audio_latents", "conditions": [{"type": "prefix", "temporal_boundary": 2}]},
}


def clips_run(folder: Path, **changed: Any) -> Path:
    """A run of two clips of other rates and lengths, with masks, references, and sound; and of a clip with a picture for its reference."""
    clip_file(folder / "a.mp4", frames=33)
    clip_file(folder / "b.mp4", frames=20, rate=25)
    clip_file(folder / "picture.png", frames=1, sound=False)
    (folder / "clips.jsonl").write_text(
        '{"video": "a.mp4", "caption": "a", "video_mask": "picture.png", "reference_video": "a.mp4"}\n'
        '{"video": "b.mp4", "caption": "b", "video_mask": "picture.png", "reference_video": "picture.png"}\n'
    )
    run = {
        "output_dir": str(folder / "out"),
        "model": {"model_path": "tiny"},
        "lora": {"rank": 2, "target_modules": ["attn1.to_q"]},
        "training_strategy": STRATEGY,
        "data": {"dataset": str(folder / "clips.jsonl"), "held_out": 0},
        "preprocessing": {"resolution_buckets": "64x64x33;64x64x17", "keyframe_candidates": 3},
        **changed,
    }
    return write_run(folder, run)


def test_shapes_and_rates_are_those_of_the_encoded_samples(tmp_path: Path) -> None:
    loaded = load_run(clips_run(tmp_path))
    found, options = draft(loaded).checked(), loaded.config.preprocessing
    rows = read_dataset(tmp_path / "clips.jsonl", options, {source.folder for source in found.strategy.sources().values()})
    with bars(False) as phase:
        seen = glance(encoding_as_far(rows, found.root, options, Codecs("tiny", device="cpu"), str, []), phase)
    ahead = foreseen(found, seen)
    command = [
        "preprocess",
        str(tmp_path / "clips.jsonl"),
        "--model-path",
        "tiny",
        "--resolution-buckets",
        options.resolution_buckets or "",
        "--keyframe-candidates",
        "3",
    ]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    encoded = read_manifest(found.root, found.strategy.sources())
    assert ahead.samples == encoded.samples == ("a", "b")

    def known(manifest: Any) -> dict[tuple[str, str], Any]:
        return {
            (role, name): (entry.shape, entry.rate, entry.kind)
            for role, entries in manifest.entries.items()
            for name, entry in entries.items()
        }

    assert known(ahead) == known(encoded)


def test_a_prefix_that_leaves_nothing_to_generate_is_refused_before_anything_is_encoded(tmp_path: Path) -> None:
    conditions = [{"type": "prefix", "temporal_boundary": 3}]
    strategy = {"name": "flexible", "video": {"is_generated": True, "latents_dir": "latents", "conditions": conditions}}
    with pytest.raises(LtxError) as error:
        check_run(load_run(clips_run(tmp_path, training_strategy=strategy)))
    assert "conditions[0], sample b: a prefix of 3 latent frames leaves nothing to generate in a sample of 3 latent frames\n" in message(
        error.value, tmp_path
    )
