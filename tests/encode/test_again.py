"""A second run makes what depends on a change, and nothing else; a stopped one goes on; several processes share the work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors import safe_open

from helpers.raw_media import clip_file, dataset_file, encode, mask_file, sound_file
from ltxcore.cli.main import main
from ltxcore.codecs.source import Codecs
from ltxcore.codecs.tiny_audio import TinyAudioCodec
from ltxcore.codecs.tiny_text import TinyTextEncoder
from ltxcore.codecs.tiny_video import TinyVideoCodec
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.encode import products
from ltxcore.encode.preprocess import preprocess
from ltxcore.encode.work import Share
from ltxcore.encoded.manifest import read_source, source_listing
from ltxcore.files import UNFINISHED
from ltxcore.media.probe import write_clip
from ltxcore.protocols import Clip

OPTIONS: dict[str, Any] = {"resolution_buckets": "64x64x17", "lora_trigger": "TRIG"}
EVERY = ("conditions", "latents", "audio_latents", "reference_latents", "reference_audio_latents", "video_masks", "audio_masks")


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a dataset with every column, encoded once."""
    folder = tmp_path_factory.mktemp("every")
    rows = []
    for index in range(2):
        row = {
            "video": f"clips/{index}.mp4",
            "reference_video": f"refs/{index}.mp4",
            "reference_audio": f"refs/{index}.wav",
            "video_mask": f"masks/{index}.png",
            "audio_mask": f"masks/{index}.wav",
            "caption": f"Clip {index}",
        }
        clip_file(folder / row["video"], frames=20, seed=index)
        clip_file(folder / row["reference_video"], frames=20, seed=index + 5, sound=False)
        sound_file(folder / row["reference_audio"], seconds=1.25, hertz=500)
        clip_file(folder / row["video_mask"], frames=1, seed=index, sound=False)
        mask_file(folder / row["audio_mask"], [1.0, 0.0], seconds=1.25)
        rows.append(row)
    encode(dataset_file(folder / "set.jsonl", rows), **OPTIONS)
    return folder


def contents(root: Path) -> dict[str, Any]:
    """Every sample: what its header says (safetensors writes that in no order), and the bytes of its tensors."""
    found = {}
    for path in samples_in(root):
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key).numpy().tobytes() for key in file.keys()}  # noqa: SIM118 (not a mapping)
            found[path.relative_to(root).as_posix()] = (file.metadata(), tensors)
    return found


def samples_in(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.safetensors") if UNFINISHED not in path.name)


def written(root: Path) -> dict[str, int]:
    return {path.relative_to(root).with_suffix("").as_posix(): path.stat().st_mtime_ns for path in samples_in(root)}


def rewritten(folder: Path, change: Callable[[dict[str, str]], None]) -> None:
    """Change row 1 of the dataset."""
    path = folder / "set.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows[1])
    dataset_file(path, rows)


def of(folders: tuple[str, ...], *samples: int) -> set[str]:
    return {f"{folder}/clips/{index}" for folder in folders for index in samples}


VIDEO = ("latents", "reference_latents", "video_masks")
SOUND = ("audio_latents", "reference_audio_latents")


def clip(folder: Path) -> None:
    clip_file(folder / "clips/1.mp4", frames=20, seed=9)


def mask_of_pictures(folder: Path) -> None:
    clip_file(folder / "masks/1.png", frames=1, seed=7, sound=False)


def mask_of_sound(folder: Path) -> None:
    mask_file(folder / "masks/1.wav", [0.0, 1.0], seconds=1.25)


def reference(folder: Path) -> None:
    clip_file(folder / "refs/1.mp4", frames=20, seed=2, sound=False)


def reference_sound(folder: Path) -> None:
    sound_file(folder / "refs/1.wav", seconds=1.25, hertz=700)


def caption(folder: Path) -> None:
    rewritten(folder, lambda row: row.update(caption="another"))


def stock_opening(folder: Path) -> None:
    rewritten(folder, lambda row: row.update(caption="The video shows clip 1"))


def mask_of_another_row(folder: Path) -> None:
    rewritten(folder, lambda row: row.update(audio_mask="masks/0.wav", video_mask="masks/0.png"))


def dates(folder: Path) -> None:
    for path in (folder / "clips").iterdir():
        os.utime(path)


def nothing(folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        (nothing, {}, set()),
        (dates, {}, set()),
        (clip, {}, of(("latents", "audio_latents"), 1)),
        (mask_of_pictures, {}, of(("video_masks",), 1)),
        (mask_of_sound, {}, of(("audio_masks",), 1)),
        (reference, {}, of(("reference_latents",), 1)),
        (reference_sound, {}, of(("reference_audio_latents",), 1)),
        (caption, {}, of(("conditions",), 1)),
        (mask_of_another_row, {}, of(("video_masks",), 1)),  # the audio masks are alike
        (nothing, {"lora_trigger": "OTHER"}, of(("conditions",), 0, 1)),
        (nothing, {"lora_trigger": " TRIG "}, set()),
        (stock_opening, {}, of(("conditions",), 1)),
        (stock_opening, {"remove_llm_prefixes": True}, set()),
        (nothing, {"resolution_buckets": "64x32x17"}, of(VIDEO, 0, 1)),  # the sound is as long as before
        (nothing, {"resolution_buckets": "64x64x9"}, of((*VIDEO, *SOUND, "audio_masks"), 0, 1)),
        (nothing, {"resolution_buckets": "64x64x17;64x32x17"}, set()),
        (nothing, {"reference_downscale_factor": 2}, of(("reference_latents",), 0, 1)),
        (nothing, {"reference_temporal_scale_factor": 2}, of(("reference_latents",), 0, 1)),
        (nothing, {"batch_size": 2}, set()),
    ],
)
def test_a_change_redoes_exactly_what_depends_on_it(
    encoded: Path, tmp_path: Path, change: Callable[[Path], None], options: dict[str, Any], expected: set[str]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(encoded, folder)
    root = folder / ".precomputed"
    before = written(root)
    change(folder)
    summary = encode(folder / "set.jsonl", **{**OPTIONS, **options})
    assert {name for name, time in written(root).items() if before.get(name) != time} == expected
    assert (summary.done, summary.reused) == (len(expected), 14 - len(expected))
    fresh = encode(folder / "set.jsonl", tmp_path / "fresh", **{**OPTIONS, **options})
    assert contents(root) == contents(fresh.root)


@pytest.mark.parametrize(
    ("codec", "folders"),
    [
        (TinyVideoCodec, ("latents", "reference_latents")),
        (TinyAudioCodec, SOUND),
        (TinyTextEncoder, ("conditions",)),
    ],
)
def test_another_codec_redoes_what_it_makes(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: type, folders: tuple[str, ...]
) -> None:
    shutil.copytree(encoded, tmp_path / "copy")
    original = codec.__init__

    def other(self: Any) -> None:
        original(self)
        object.__setattr__(self, "fingerprint", "another")

    monkeypatch.setattr(codec, "__init__", other)
    summary = encode(tmp_path / "copy/set.jsonl", **OPTIONS)
    assert {folder for folder, counts in summary.folders.items() if counts.done} == set(folders)


def test_another_version_redoes_everything(encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(encoded, tmp_path / "copy")
    monkeypatch.setattr(products, "VERSION", products.VERSION + 1)
    assert encode(tmp_path / "copy/set.jsonl", **OPTIONS).reused == 0


@pytest.mark.parametrize("damage", ["gone", "truncated", "unrecorded"])
def test_a_sample_that_is_not_as_recorded_is_made_again(encoded: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(encoded, folder)
    root = folder / ".precomputed"
    expected, path = contents(root), root / "latents/clips/1.safetensors"
    if damage == "gone":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        (root / "latents/manifest-0.jsonl").unlink()
    summary = encode(folder / "set.jsonl", **OPTIONS)
    # A file that no manifest records tells itself what it was made of, so it is kept.
    assert summary.done == (0 if damage == "unrecorded" else 1)
    assert contents(root) == expected


def test_everything_is_made_again_where_the_user_says_so(encoded: Path, tmp_path: Path) -> None:
    root = tmp_path / ".precomputed"
    shutil.copytree(encoded / ".precomputed", root)
    before, expected = written(root), contents(root)
    summary = preprocess(
        encoded / "set.jsonl", root, PreprocessingTable(**OPTIONS), Codecs("tiny"), overwrite=True, progress=False, workers=2
    )
    assert (summary.done, summary.reused) == (14, 0)
    assert all(time > before[name] for name, time in written(root).items())
    assert contents(root) == expected


def test_a_file_that_changed_under_its_old_date_is_found_where_everything_is_made_again(tmp_path: Path) -> None:
    sound, old = sound_file(tmp_path / "a.wav", hertz=300), 1_000_000_000
    os.utime(sound, ns=(old, old))
    path = dataset_file(tmp_path / "set.jsonl", [{"audio": "a.wav", "caption": "c"}])
    root = encode(path).root
    sound_file(tmp_path / "a.wav", hertz=600)
    os.utime(sound, ns=(old, old))
    assert encode(path).done == 0
    fingerprint = read_source(root, "audio_latents")["a"].fingerprint
    preprocess(path, root, PreprocessingTable(), Codecs("tiny"), overwrite=True, progress=False)
    assert read_source(root, "audio_latents")["a"].fingerprint != fingerprint


def test_folders_that_are_asked_for_later_are_added_to_those_there_are(encoded: Path, tmp_path: Path) -> None:
    first = encode(encoded / "set.jsonl", tmp_path, folders=["conditions", "latents"], **OPTIONS)
    assert first.done == 4
    second = encode(encoded / "set.jsonl", tmp_path, **OPTIONS)
    assert (second.done, second.reused) == (10, 4)
    assert contents(tmp_path) == contents(encoded / ".precomputed")


def test_processes_share_the_work_and_the_last_one_merges_their_manifests(encoded: Path, tmp_path: Path) -> None:
    def work(rank: int) -> None:
        table = PreprocessingTable(**OPTIONS)
        summaries[rank] = preprocess(
            encoded / "set.jsonl", tmp_path, table, Codecs("tiny"), share=Share(rank, 2), workers=1, progress=False
        )

    summaries: dict[int, Any] = {}
    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # What the other one made before this one looked counts as reused.
    assert [summaries[rank].done + summaries[rank].reused + summaries[rank].others for rank in range(2)] == [14, 14]
    assert sum(summaries[rank].done for rank in range(2)) == 14
    assert summaries[0].samples == summaries[1].samples == ("clips/0", "clips/1")
    assert contents(tmp_path) == contents(encoded / ".precomputed")
    for folder in EVERY:
        assert sorted(path.name for path in (tmp_path / folder).glob("manifest*.jsonl")) == ["manifest-0.jsonl"]
        assert list(read_source(tmp_path, folder)) == ["clips/0", "clips/1"]


def test_a_killed_process_leaves_nothing_half_done_and_the_next_one_goes_on(tmp_path: Path) -> None:
    rows = []
    for index in range(12):
        clip_file(tmp_path / f"{index}.mp4", seed=index)
        rows.append({"video": f"{index}.mp4", "caption": f"clip {index}"})
    path = dataset_file(tmp_path / "set.jsonl", rows)
    expected = contents(encode(path, tmp_path / "whole").root)
    root = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "ltxcore",
        "preprocess",
        str(path),
        "--model-path",
        "tiny",
        "--output-dir",
        str(root),
        "--workers",
        "1",
    ]
    for files in (2, 25):
        process = subprocess.Popen([*command, "--no-progress"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until = time.monotonic() + 60
        while len(samples_in(root)) < files and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = contents(root)
        assert len(found) >= files
        assert found == {name: expected[name] for name in found}
    summary = encode(path, root)
    assert contents(root) == expected
    assert summary.reused >= 25
    assert summary.done + summary.reused == 36


def test_a_clip_of_another_dataset_in_the_same_root_is_no_sample_of_this_one(tmp_path: Path) -> None:
    for name in "ab":
        write_clip(tmp_path / f"{name}.mp4", Clip(clip_frames(name), 16))
    for name in "ab":
        path = dataset_file(tmp_path / f"{name}.jsonl", [{"video": f"{name}.mp4", "caption": name}])
        summary = encode(path, tmp_path / "root", skip_audio=True)
        assert summary.samples == (name,)
    assert list(read_source(summary.root, "latents")) == ["a", "b"]


def clip_frames(name: str) -> Any:
    import torch

    return torch.full((9, 32, 32, 3), 40 * ord(name) % 250, dtype=torch.uint8)


# ---------------------------------------------------------------- the same bytes, damage, long names, clocks


def test_a_set_that_is_encoded_twice_has_the_same_files_byte_for_byte(encoded: Path, tmp_path: Path) -> None:
    """Whatever the threads and however the captions are batched."""
    files = []
    for number, (workers, batch_size) in enumerate([(1, 8), (3, 1)]):
        table = PreprocessingTable(**OPTIONS, batch_size=batch_size)
        preprocess(encoded / "set.jsonl", tmp_path / str(number), table, Codecs("tiny"), workers=workers, progress=False)
        root = tmp_path / str(number)
        files.append({path.relative_to(root).as_posix(): path.read_bytes() for path in samples_in(root)})
    assert len(files[0]) == 2 * len(EVERY)
    assert files[0] == files[1]


def _flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 8  # in a number
    path.write_bytes(data)


@pytest.mark.parametrize("folder", EVERY)
def test_a_file_with_a_flipped_bit_is_made_again_when_it_is_looked_for_or_was_deleted(encoded: Path, tmp_path: Path, folder: str) -> None:
    shutil.copytree(encoded, tmp_path / "set")
    dataset, path = tmp_path / "set/set.jsonl", tmp_path / f"set/.precomputed/{folder}/clips/1.safetensors"
    whole = path.read_bytes()
    _flip_a_bit(path)
    assert encode(dataset, **OPTIONS).done == 0  # nothing is read that is up to date
    found = preprocess(dataset, None, PreprocessingTable(**OPTIONS), Codecs("tiny"), verify=True, workers=2, progress=False)
    assert {name: counts.done for name, counts in found.folders.items() if counts.done} == {folder: 1}
    assert path.read_bytes() == whole
    _flip_a_bit(path)
    path.unlink()
    assert encode(dataset, **OPTIONS).done == 1
    assert path.read_bytes() == whole


LONG = ("x" * 251, "猫" * 83 + "1", os.fsdecode(b"caf\xe9"))
"""Stems of clips whose names are as long as a file system takes, and one that is no text."""


def test_clips_with_the_oddest_names_are_encoded_listed_examined_and_decoded(tmp_path: Path) -> None:
    rows = []
    for index, stem in enumerate(LONG):
        clip_file(tmp_path / "clips" / f"{stem}.mp4", seed=index)
        rows.append({"video": f"clips/{stem}.mp4", "caption": f"clip {index}"})
    dataset = dataset_file(tmp_path / "set.jsonl", rows)
    options = {"resolution_buckets": "64x64x17"}
    assert encode(dataset, **options).done == 9
    assert encode(dataset, **options).done == 0
    names = sorted(f"clips/{stem}" for stem in LONG)
    root = tmp_path / ".precomputed"
    assert list(read_source(root, "latents")) == names
    for path in root.rglob("manifest*.jsonl"):
        path.unlink()  # the files say their names themselves
    assert list(read_source(root, "latents")) == names
    assert encode(dataset, **options).done == 0
    result = CliRunner().invoke(main, ["doctor", str(dataset), "--resolution-buckets", "64x64x17", "--model-path", "tiny"])
    assert "3 of 3 samples are encoded" in result.stdout
    assert (result.exit_code, result.stdout.splitlines()[-1].strip()) == (0, "3 warnings")  # one channel of sound
    result = CliRunner().invoke(main, ["decode", str(root), "-o", str(tmp_path / "decoded"), "--no-progress"])
    assert (result.exit_code, result.stdout) == (0, f"3 made, 0 reused in {tmp_path / 'decoded'}\n")
    assert len(list((tmp_path / "decoded/latents/clips").glob("*.mp4"))) == 3


def test_a_set_that_was_encoded_by_a_clock_that_was_ahead_is_made_again_once(encoded: Path, tmp_path: Path) -> None:
    shutil.copytree(encoded, tmp_path / "set")
    dataset = tmp_path / "set/set.jsonl"
    for path in (tmp_path / "set/.precomputed").rglob("manifest-0.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**line, "time": line["time"] + 86_400.0}) + "\n" for line in lines))
    for trigger in ("OTHER", "THIRD"):
        options = {**OPTIONS, "lora_trigger": trigger}
        assert encode(dataset, **options).done == 2
        assert encode(dataset, **options).done == 0


def test_a_file_that_was_deleted_and_cannot_be_made_again_is_taken_out_of_the_manifest(encoded: Path, tmp_path: Path) -> None:
    shutil.copytree(encoded, tmp_path / "set")
    root = tmp_path / "set/.precomputed"
    (root / "latents/clips/1.safetensors").unlink()
    clip_file(tmp_path / "set/clips/1.mp4", frames=3)  # too short
    encode(tmp_path / "set/set.jsonl", **OPTIONS, on_error="skip")
    for folder in EVERY:
        found = source_listing(root, folder)
        assert (list(found.entries), found.at_fault) == (["clips/0"], frozenset())
