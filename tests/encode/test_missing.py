"""Stills, silent clips and sounds alone are encoded as far as they go, where a run trains without what is missing; and nothing else may lack."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.raw_media import clip_file, dataset_file, encode, mask_file, message, sound_file
from helpers.training_runs import tables, write_run
from ltxcore.cli.main import main
from ltxcore.config.load import load_run
from ltxcore.encoded.manifest import read_source
from ltxcore.errors import DataError
from ltxcore.runs.checks import check_run

BUCKETS = "64x64x17;64x64x1"
BOTH = frozenset({"video", "audio"})
COUNTED = "1 sample has video and audio, 2 video alone and 1 audio alone"


def folder_of_media(folder: Path) -> Path:
    clip_file(folder / "clip.mp4", seed=1)
    clip_file(folder / "silent.mp4", seed=2, sound=False)
    clip_file(folder / "still.png", seed=3, frames=1, sound=False)
    sound_file(folder / "sound.wav")
    for path in list(folder.iterdir()):
        path.with_suffix(".txt").write_text(f"this is {path.stem}")
    return folder


def held(root: Path) -> dict[str, list[str]]:
    return {folder: sorted(read_source(root, folder)) for folder in ("conditions", "latents", "audio_latents")}


def test_each_sample_is_encoded_as_far_as_it_goes(tmp_path: Path) -> None:
    media, root = folder_of_media(tmp_path / "media"), tmp_path / "root"
    made = ["preprocess", str(media), "--model-path", "tiny", "--output-dir", str(root), "--resolution-buckets", BUCKETS, "--no-progress"]
    refused = CliRunner().invoke(main, made)
    assert refused.exit_code == 2
    assert "sound.wav: has audio but no video" in refused.output
    done = CliRunner().invoke(main, [*made, "--missing", "train_without"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert f"\n4 samples in {root}\n{media}: {COUNTED}\n" in done.output
    names = ["clip", "silent", "sound", "still"]
    assert held(root) == {"conditions": names, "latents": ["clip", "silent", "still"], "audio_latents": ["clip", "sound"]}
    assert encode(media, root, resolution_buckets=BUCKETS, may_lack=BOTH).done == 0


def run_file(folder: Path, media: Path, missing: str = "train_without") -> Path:
    told = tables(folder, folder / "out", lora={"target_modules": ["attn1.to_q"]}, optimization={"steps": 3, "batch_size": 1})
    told["data"] = {"dataset": str(media), "preprocessed_data_root": str(folder / "root"), "held_out": 0, "missing": missing}
    told["preprocessing"] = {"resolution_buckets": BUCKETS}
    latents = {"video": "latents", "audio": "audio_latents"}
    told["training_strategy"] = {
        "name": "flexible",
        **{name: {"is_generated": True, "latents_dir": each} for name, each in latents.items()},
    }
    return write_run(folder, told)


def test_a_check_counts_them_before_and_after_they_are_encoded(tmp_path: Path) -> None:
    media, root = folder_of_media(tmp_path / "media"), tmp_path / "root"
    checked = check_run(load_run(run_file(tmp_path, media)))
    assert f"{media}: {COUNTED}" in checked.notes
    assert checked.samples.startswith("4, not encoded yet")
    with pytest.raises(DataError, match=r"silent\.mp4: has no sound"):
        encode(media, root, resolution_buckets=BUCKETS)
    encode(media, root, resolution_buckets=BUCKETS, may_lack=BOTH)
    checked = check_run(load_run(run_file(tmp_path, media)))
    assert checked.samples == "4 to train on, 0 held out"
    assert f"{COUNTED}." in checked.notes
    assert checked.plan is not None
    clip_file(media / "silent.mp4", seed=2)  # with sound now
    (media / "clip.mp4").unlink()
    clip_file(media / "clip.mp4", seed=1, sound=False)
    assert "2 are encoded, and the first run encodes the other 2" in check_run(load_run(run_file(tmp_path, media))).samples
    encode(media, root, resolution_buckets=BUCKETS, may_lack=BOTH)
    assert held(root)["audio_latents"] == ["silent", "sound"]


def test_cells_of_a_table_may_be_empty(tmp_path: Path) -> None:
    clip_file(tmp_path / "clip.mp4", seed=1)
    clip_file(tmp_path / "silent.mp4", seed=2, sound=False)
    sound_file(tmp_path / "sound.wav")
    table, root = tmp_path / "set.csv", tmp_path / "root"
    table.write_text('video,audio,caption\nclip.mp4,sound.wav,"both"\nsilent.mp4,,"video"\n,sound.wav,"audio"\n')
    encode(table, root, resolution_buckets=BUCKETS, may_lack=BOTH)
    names = ["clip", "silent", "sound"]
    assert held(root) == {"conditions": names, "latents": ["clip", "silent"], "audio_latents": ["clip", "sound"]}
    with pytest.raises(DataError, match=r'set\.csv:3: the value of "audio" is empty'):
        encode(table, root, resolution_buckets=BUCKETS)
    table.write_text('video,audio,caption\nclip.mp4,,"its own audio"\nsilent.mp4,,"video"\n')
    encode(table, tmp_path / "own", resolution_buckets=BUCKETS, may_lack=BOTH)
    assert held(tmp_path / "own")["audio_latents"] == ["clip"]
    table.write_text('video,audio,caption\nclip.mp4,,"both"\n,,"neither"\n')
    with pytest.raises(DataError) as caught:
        encode(table, root, resolution_buckets=BUCKETS, may_lack=BOTH)
    assert message(caught) == f"{table}:3: names neither a clip nor a sound\n    Name a file."


def test_what_goes_with_a_modality_may_lack_only_with_it(tmp_path: Path) -> None:
    for name in ("whole", "maskless", "silent"):
        clip_file(tmp_path / f"{name}.mp4", sound=name != "silent")
    mask_file(tmp_path / "mask.wav", [1.0, 0.0])
    rows = [
        {"video": "whole.mp4", "audio_mask": "mask.wav", "caption": "a"},
        {"video": "maskless.mp4", "audio_mask": "", "caption": "b"},
        {"video": "silent.mp4", "caption": "c"},
    ]
    table = dataset_file(tmp_path / "set.jsonl", rows)
    with pytest.raises(DataError) as caught:
        encode(table, tmp_path / "root", resolution_buckets=BUCKETS, may_lack=BOTH)
    assert message(caught) == f"{table}:2: has audio, but lacks the audio mask that goes with it\n    Add it, or leave the sample out."
    encode(dataset_file(table, [rows[0], rows[2]]), tmp_path / "root", resolution_buckets=BUCKETS, may_lack=BOTH)
    assert sorted(read_source(tmp_path / "root", "audio_masks")) == ["whole"]


def test_a_set_of_sounds_alone_and_one_of_stills_alone_are_sets_of_one_run(tmp_path: Path) -> None:
    sound_file(tmp_path / "sounds" / "a.wav")
    clip_file(tmp_path / "stills" / "b.png", frames=1, sound=False)
    for name in ("sounds/a", "stills/b"):
        (tmp_path / f"{name}.txt").write_text("a caption")
    told = load_run(run_file(tmp_path, tmp_path / "sounds")).config
    assert told.data.missing == "train_without"
    text = run_file(tmp_path, tmp_path / "sounds").read_text()
    first, second = (f'\n[[data.sets]]\ndataset = "{tmp_path / name}"\n' for name in ("sounds", "stills"))
    lines = [line for line in text.splitlines() if not line.startswith(("dataset = ", "preprocessed_data_root = "))]
    path = tmp_path / "sets.toml"
    path.write_text("\n".join(lines) + first + second)
    checked = check_run(load_run(path))
    assert f"{tmp_path / 'sounds'}: 0 samples have video and audio, 1 audio alone" in checked.notes
    assert f"{tmp_path / 'stills'}: 0 samples have video and audio, 1 video alone" in checked.notes
