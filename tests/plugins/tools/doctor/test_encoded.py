"""One fault planted in a healthy encoded set is found by its name, and nothing else is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.encoded_sets import read_latents
from helpers.raw_media import encode
from helpers.training_runs import write_run
from ltxcore.encoded.manifest import append_entry, read_source, remove_sample
from ltxcore.encoded.sample_names import sample_path
from ltxcore.encoded.store import DAMAGED, read_stored, write_sample
from ltxcore.errors import ConfigError, DataError
from ltxcore.protocols import Entry
from plugins.tools.doctor.healthy import change_row, checkup, found, put_clip, put_video_mask

EXAMPLES = Path(__file__).parents[4] / "examples/media"

AGAIN = "`ltx preprocess`, or a run that names the dataset, encodes it again; a run that names only the encoded set trains on the old one."


def root_of(folder: Path) -> Path:
    return folder / ".precomputed"


def put(folder: Path, kind: str, name: str, tensors: Mapping[str, Tensor], **changed: Any) -> None:
    """Write a sample over another one, as preprocessing would."""
    root = root_of(folder)
    old = read_source(root, kind)[name]
    told = {"rate": old.rate, "fingerprint": old.fingerprint, "origin": old.origin, "encoder": old.encoder} | changed
    append_entry(root, kind, name, write_sample(root, kind, name, tensors, Entry(**{"shape": (), **told})))


def latents(folder: Path, kind: str, name: str) -> Tensor:
    return read_latents(sample_path(root_of(folder), kind, name))[0]


def test_nothing_is_wrong_with_the_healthy_set_and_nothing_is_written(encoded: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in encoded.rglob("*")}
    for target in (root_of(encoded), encoded, encoded / "set.jsonl"):
        assert found(encoded, target) == []
        assert found(encoded, target, deep=True) == []
    assert found(encoded, encoded / "set.jsonl", model="tiny") == []
    assert {path: path.stat().st_mtime_ns for path in encoded.rglob("*")} == before


def test_a_set_without_manifests_is_examined_and_no_index_is_written(encoded: Path) -> None:
    for path in root_of(encoded).rglob("manifest*.jsonl"):
        path.unlink()
    before = set(encoded.rglob("*"))
    assert found(encoded, root_of(encoded)) == []
    assert set(encoded.rglob("*")) == before


def test_folders_of_other_names_are_known_by_what_they_hold(encoded: Path) -> None:
    root = root_of(encoded)
    for old, new in (("latents", "pictures"), ("video_masks", "holes"), ("reference_latents", "edges")):
        (root / old).rename(root / new)
    (root / "edges").rename(root / "reference_edges")
    assert found(encoded, root) == []
    put(encoded, "holes", "clips/1", {"mask": torch.ones(3, 2, 2)})
    assert [(each[0], each[2]) for each in found(encoded, root)] == [("mask", "TMP/.precomputed/holes/clips/1.safetensors")]


# ---------------------------------------------------------------- files and values


def test_latents_that_are_not_finite(encoded: Path) -> None:
    held = latents(encoded, "latents", "clips/1").clone()
    held[0, 0, 0, 0] = float("nan")
    put(encoded, "latents", "clips/1", {"latents": held})
    assert found(encoded, root_of(encoded)) == [
        (
            "encoded",
            "error",
            "TMP/.precomputed/latents",
            '1 sample of "latents" holds NaN or infinite values: clips/1',
            "Check the media of these samples, and run `ltx preprocess` again, which encodes the samples again.",
        )
    ]


def test_latents_that_are_not_finite_behind_their_manifest_are_found_where_they_are_read(encoded: Path) -> None:
    root, held = root_of(encoded), latents(encoded, "latents", "clips/1").clone()
    held[0, 0, 0, 0] = float("inf")
    entry = read_source(root, "latents")["clips/1"]
    write_sample(
        root,
        "latents",
        "clips/1",
        {"latents": held},
        Entry((), entry.rate, fingerprint=entry.fingerprint, origin=entry.origin, encoder=entry.encoder),
    )
    path, redo = (
        "TMP/.precomputed/latents/clips/1.safetensors",
        "Run `ltx preprocess --verify` on its dataset, which encodes damaged files again.",
    )
    assert found(encoded, root) == [("encoded", "error", path, "is damaged: its content differs from what was written", redo)]
    what = "holds NaN or infinite values, but the manifest says otherwise"
    assert found(encoded, root, deep=True) == [("encoded", "error", path, what, redo)]


@pytest.mark.parametrize("kind", ["conditions", "latents", "audio_latents", "video_masks", "audio_masks", "reference_latents"])
def test_a_file_with_a_flipped_bit(encoded: Path, kind: str) -> None:
    path = sample_path(root_of(encoded), kind, "clips/1")
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)
    place, redo = (
        f"TMP/.precomputed/{kind}/clips/1.safetensors",
        "Run `ltx preprocess --verify` on its dataset, which encodes damaged files again.",
    )
    for target in (root_of(encoded), encoded / "set.jsonl"):
        assert [each for each in found(encoded, target) if each[0] == "encoded"] == [("encoded", "error", place, DAMAGED, redo)]
        assert [each[2:] for each in found(encoded, target, deep=True) if each[0] == "encoded"] == [(place, what_of(path), redo)]


def what_of(path: Path) -> str:
    """What is wrong with the values, or else that there is damage."""
    try:
        read_stored(path)
    except DataError as error:
        return error.problems[0].what
    return DAMAGED


@pytest.mark.parametrize("deep", [False, True])
def test_only_the_files_of_so_many_samples_are_read(encoded: Path, deep: bool) -> None:
    root = root_of(encoded)
    for name in ("clips/1", "clips/2"):
        path = sample_path(root, "video_masks", name)
        path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\xc0\x7f")

    def at_fault(samples: int | None) -> list[str]:
        return [each[2].rpartition("/")[2] for each in found(encoded, root, deep=deep, samples=samples) if each[0] == "encoded"]

    assert at_fault(1) == []
    assert at_fault(2) == ["1.safetensors"]
    assert at_fault(3) == at_fault(None) == ["1.safetensors", "2.safetensors"]
    (said,) = (each for each in checkup(root, deep=deep, samples=2).looked if "encoded files in" in each)
    compared = "the bytes of all were compared with their checksums."
    assert said.endswith(f"; only the 14 files of 2 of 3 samples were read (--samples): {compared}")
    path.write_bytes(b"cut")  # whose size is known without reading it
    assert [each[0] for each in found(encoded, root, deep=deep, samples=1)] == ["encoded"]


def test_the_doctor_says_whose_bytes_were_compared(encoded: Path) -> None:
    def told() -> str:
        (sentence,) = (each for each in checkup(root_of(encoded)).looked if "encoded files in" in each)
        return sentence

    assert told().endswith("; the bytes of all were compared with their checksums.")
    forget_checksums(root_of(encoded) / "latents")
    assert told().endswith("; the bytes of 18 were compared with their checksums; the other 3, encoded by 0.1.0, have none.")
    forget_checksums(root_of(encoded))
    assert told().endswith("; none has a checksum, as is the case for files encoded by 0.1.0.")
    assert found(encoded, root_of(encoded)) == []


def forget_checksums(folder: Path) -> None:
    """Manifests as 0.1.0 wrote them."""
    for path in folder.rglob("manifest*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({key: value for key, value in line.items() if key != "checksum"}) + "\n" for line in lines))


def test_a_sample_whose_name_is_no_text_is_told_of(encoded: Path) -> None:
    put_mask = write_sample(root_of(encoded), "video_masks", os.fsdecode(b"caf\xe9"), {"mask": torch.ones(3, 2, 2)}, Entry(()))
    assert put_mask.finite
    for form in ([], ["--json"]):
        result = subprocess.run(
            [sys.executable, "-m", "ltxcore", "doctor", str(root_of(encoded)), *form], capture_output=True, check=False, timeout=120
        )
        assert (result.returncode, result.stderr) == (1, b"")
        assert b"caf\\udce9" in result.stdout


def test_a_file_that_is_truncated(encoded: Path) -> None:
    path = sample_path(root_of(encoded), "latents", "clips/0")
    path.write_bytes(path.read_bytes()[:-8])
    assert found(encoded, root_of(encoded)) == [
        (
            "encoded",
            "error",
            "TMP/.precomputed/latents",
            '1 sample of "latents" has a size that differs from the recorded one: clips/0',
            'Run `ltx preprocess` again, which encodes them again. If the files are your own, delete the manifest*.jsonl of "latents": the folder is then indexed again.',
        )
    ]


def test_a_file_that_is_gone(encoded: Path) -> None:
    sample_path(root_of(encoded), "audio_masks", "clips/0").unlink()
    assert found(encoded, root_of(encoded)) == [
        (
            "encoded",
            "error",
            "TMP/.precomputed/audio_masks",
            'the manifest of "audio_masks" records 1 sample whose file is missing: clips/0',
            'Run `ltx preprocess` again. If you removed the files on purpose, delete the manifest*.jsonl of "audio_masks" too: the folder is then indexed again.',
        )
    ]


def test_sources_that_do_not_join(encoded: Path) -> None:
    remove_sample(root_of(encoded), "conditions", "clips/2")
    (finding,) = found(encoded, root_of(encoded))
    assert finding == (
        "encoded",
        "error",
        "TMP/.precomputed/conditions",
        '"conditions" lacks 1 sample of "audio_latents", "audio_masks", "latents", "reference_audio_latents", "reference_latents", "video_masks": clips/2',
        "Make the missing samples with `ltx preprocess`, or remove these samples from the other folders.",
    )


def test_text_features_of_two_encoders(encoded: Path) -> None:
    words = torch.ones(3, 128)
    put(encoded, "conditions", "clips/1", {"video": words, "audio": words}, shape=(32,), encoder="ltx-2.3/abc")
    assert found(encoded, root_of(encoded)) == [
        (
            "encoded",
            "error",
            "TMP/.precomputed/conditions",
            'the samples of "conditions" do not all have the same encoder: tiny-text-1-32x128 in 2, ltx-2.3/abc in clips/1',
            "Encode the whole dataset with one model: run `ltx preprocess` with another --output-dir.",
        )
    ]


# ---------------------------------------------------------------- masks, references, lengths


def test_a_mask_of_another_size_than_its_latents(encoded: Path) -> None:
    put(encoded, "video_masks", "clips/0", {"mask": torch.tensor([0.0, 1.0]).expand(3, 3, 2).contiguous()})
    assert found(encoded, root_of(encoded)) == [
        (
            "encoded",
            "error",
            "TMP/.precomputed/video_masks",
            '1 mask of "video_masks" does not fit the video latents: clips/0 (3 x 3 x 2 for 3 x 2 x 2)',
            "Make masks from the same media as the latents, with one value per latent cell.",
        )
    ]


@pytest.mark.parametrize(("value", "effect"), [(1.0, "everything is given, and nothing is left to learn"), (0.0, "nothing is given")])
def test_a_mask_of_one_value(encoded: Path, value: float, effect: str) -> None:
    put(encoded, "video_masks", "clips/0", {"mask": torch.full((3, 2, 2), value)})
    assert found(encoded, root_of(encoded)) == [
        (
            "mask",
            "warning",
            "TMP/.precomputed/video_masks/clips/0.safetensors",
            f"has the value {value:g} everywhere: {effect}",
            "White (or amplitude 1) is given, black (or silence) is generated; use both, or leave the row out.",
        )
    ]


def test_a_reference_that_is_smaller_across_than_down(encoded: Path) -> None:
    put(encoded, "reference_latents", "clips/0", {"latents": latents(encoded, "reference_latents", "clips/0")[:, :, :, :1].contiguous()})
    assert found(encoded, root_of(encoded)) == [
        (
            "conditions",
            "error",
            "TMP/.precomputed/reference_latents, sample clips/0",
            "a reference of 2 x 1 latent cells is smaller than its target of 2 x 2 by different factors in height and width",
            "Make references as large as their targets, or smaller by the same whole factor in height and width.",
        )
    ]


def test_references_of_different_scale(encoded: Path) -> None:
    put(encoded, "reference_latents", "clips/0", {"latents": latents(encoded, "reference_latents", "clips/0")[:, :, :1, :1].contiguous()})
    assert found(encoded, root_of(encoded)) == [
        (
            "conditions",
            "error",
            "TMP/.precomputed/reference_latents",
            "references have different spatial factors: 1, 2",
            "Preprocess all of them with the same factor: a LoRA can record only one for each reference.",
        )
    ]


def test_a_sound_that_is_shorter_than_its_pictures(encoded: Path) -> None:
    put(encoded, "audio_latents", "clips/2", {"latents": latents(encoded, "audio_latents", "clips/2")[:, :14].contiguous()})
    put(encoded, "audio_masks", "clips/2", {"mask": (torch.arange(14) < 7).float()})
    assert found(encoded, root_of(encoded)) == [
        (
            "sound-length",
            "warning",
            "TMP/.precomputed/audio_latents: clips/2",
            "lasts 0.530 s, but its video lasts 1.062 s",
            "Encode both from the same clip, or name a sound that is as long as the clip.",
        )
    ]


def test_samples_of_different_frame_rates(encoded: Path) -> None:
    for folder in ("latents", "reference_latents"):
        put(encoded, folder, "clips/1", {"latents": latents(encoded, folder, "clips/1")}, rate=16.5)
    assert found(encoded, root_of(encoded)) == [
        (
            "different-rates",
            "warning",
            "TMP/.precomputed/latents",
            "its samples have 2 frame rates: 16 per second in 2; 16.5 in 1: clips/1",
            "Each clip is trained at its own rate. If you do not want that, encode the media again at the same rate.",
        )
    ]


# ---------------------------------------------------------------- out of date


def stale(folder: Path, line: int, file: str, other: str) -> tuple[str, str, str, str, str]:
    what = f"TMP/.precomputed/{file}.safetensors was made with {other} other than those that the dataset and its options name now"
    return "stale", "warning", f"TMP/set.jsonl:{line}", what, AGAIN


def test_a_caption_that_changed_since(encoded: Path) -> None:
    change_row(encoded, 2, caption="another one")
    assert found(encoded, encoded / "set.jsonl") == [stale(encoded, 2, "conditions/clips/1", "a caption")]


def test_a_mask_that_changed_since(encoded: Path) -> None:
    put_video_mask(encoded / "masks/0.png", left=0, right=255)
    assert found(encoded, encoded / "set.jsonl") == [stale(encoded, 1, "video_masks/clips/0", "a mask or size")]


def test_a_clip_that_changed_since(encoded: Path) -> None:
    put_clip(encoded / "clips/2.mp4", 9)
    assert found(encoded, encoded / "set.jsonl") == [
        stale(encoded, 3, "latents/clips/2", "a clip or size"),
        stale(encoded, 3, "audio_latents/clips/2", "a sound or length"),
    ]


def test_a_trigger_that_changed_since(encoded: Path) -> None:
    assert found(encoded, encoded / "set.jsonl", lora_trigger="NEW") == [
        stale(encoded, line, f"conditions/clips/{line - 1}", "a caption") for line in (1, 2, 3)
    ]


def test_samples_that_are_not_encoded_yet_are_counted(encoded: Path) -> None:
    remove_sample(root_of(encoded), "latents", "clips/2")
    made = checkup(encoded / "set.jsonl")
    assert made.findings == []
    assert f"{root_of(encoded)}: 2 of 3 samples are encoded; `ltx preprocess` or the first run encodes the others." in made.looked


# ---------------------------------------------------------------- run files


def run_file(folder: Path, *, conditions: Any = (), **data: Any) -> Path:
    video = {"is_generated": True, "latents_dir": "latents", "conditions": list(conditions)}
    run = {
        "output_dir": str(folder / "out"),
        "model": {"model_path": "tiny-untrained"},
        "lora": {"rank": 2, "target_modules": ["attn1.to_q"]},
        "training_strategy": {"name": "flexible", "video": video},
        "data": data or {"preprocessed_data_root": str(root_of(folder))},
    }
    return write_run(folder, run)


def test_nothing_is_wrong_with_a_run_on_a_healthy_set(encoded: Path) -> None:
    conditions = [
        {"type": "first_frame"},
        {"type": "mask", "mask_dir": "video_masks"},
        {"type": "reference", "latents_dir": "reference_latents"},
    ]
    assert found(encoded, run_file(encoded, conditions=conditions)) == []
    assert found(encoded, run_file(encoded, conditions=conditions, dataset=str(encoded / "set.jsonl"))) == []
    assert not (encoded / "out").exists()


def test_text_features_that_were_made_for_another_model(encoded: Path) -> None:
    words = torch.ones(3, 128)
    for number in range(3):
        put(encoded, "conditions", f"clips/{number}", {"video": words, "audio": words}, shape=(32,), encoder="ltx-2.3/abc")
    assert found(encoded, run_file(encoded)) == [
        (
            "model",
            "error",
            "TMP/.precomputed/conditions",
            "these text features were made for LTX-2.3, but the model tiny-untrained is the tiny model",
            "Run `ltx preprocess` again with this model, into another folder or in place of these text features.",
        ),
    ]


def test_a_clip_that_is_no_longer_than_its_prefix(encoded: Path) -> None:
    conditions = [{"type": "prefix", "temporal_boundary": 3}]
    assert found(encoded, run_file(encoded, conditions=conditions)) == [
        (
            "conditions",
            "error",
            "TMP/run.toml:16: training_strategy.video.conditions[0], samples clips/0, clips/1, clips/2",
            "a prefix of 3 latent frames leaves nothing to generate in a sample of 3 latent frames",
            "Set temporal_boundary below the length of the shortest sample, or leave out the short samples.",
        )
    ]


def test_a_held_out_dataset_is_examined_too(encoded: Path) -> None:
    (encoded / "other").mkdir()
    put_clip(encoded / "other/short.mp4", frames=9)
    (encoded / "other/apart.jsonl").write_text('{"video": "short.mp4", "caption": "apart"}\n')
    path = run_file(encoded, dataset=str(encoded / "set.jsonl"), held_out=str(encoded / "other/apart.jsonl"))
    path.write_text(path.read_text() + '\n[preprocessing]\nresolution_buckets = "64x64x17"\n')
    assert found(encoded, path) == [
        (
            "unusable",
            "error",
            "TMP/other/apart.jsonl:1: TMP/other/short.mp4",
            "has 9 frames, but the shortest bucket has 17",
            'Add a shorter bucket, or leave it out with on_error = "skip".',
        )
    ]


# ---------------------------------------------------------------- examples


def test_the_clips_of_the_examples_have_no_errors(tmp_path: Path) -> None:
    lines = (EXAMPLES / "clips.jsonl").read_text().splitlines()[:4]
    (tmp_path / "clips.jsonl").write_text("\n".join(lines))
    for file in {value for line in lines for column, value in json.loads(line).items() if column != "caption"}:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(EXAMPLES / file, tmp_path / file)
    encode(tmp_path / "clips.jsonl")
    assert {(check, severity) for check, severity, *_ in found(tmp_path, tmp_path / "clips.jsonl")} == {("mono-sound", "warning")}
    assert found(tmp_path, root_of(tmp_path), deep=True) == []


# ---------------------------------------------------------------- usage


def test_what_is_not_there_or_is_none_of_the_three_is_a_mistake_of_use(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        checkup(tmp_path / "none.jsonl")
    assert (
        str(error.value)
        == f"{tmp_path}/none.jsonl: there is no such file or folder\n    Name a dataset file, a folder of media, an encoded set or a run file."
    )
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError) as error:
        checkup(tmp_path / "a.txt")
    assert str(error.value).startswith(
        f"{tmp_path}/a.txt: is not a dataset, an encoded set or a run file\n"
        "    Name a folder, or a file in .jsonl, .csv, .tsv, .json, .parquet or .toml, or add a plugin "
    )
    with pytest.raises(DataError) as error:
        checkup(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: this folder holds neither latents nor media\n"
        "    Name the folder that `ltx preprocess` wrote to, which holds latents, audio_latents or both; or a folder of clips, images or sounds."
    )


def test_a_run_file_that_is_not_in_order_is_a_mistake_of_use(encoded: Path) -> None:
    path = run_file(encoded)
    path.write_text(path.read_text().replace('["attn1.to_q"]', '["nowhere"]'))
    with pytest.raises(ConfigError, match="nowhere"):
        checkup(path)
