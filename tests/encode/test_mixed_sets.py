"""Clips of several shapes, images beside clips, clips with and without sound: each run uses all that it can, and what it leaves out is said."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from helpers.heard import heard
from helpers.raw_media import clip_file, dataset_file, encode, message
from helpers.training_runs import tables, write_run
from ltxcore.cli.main import main
from ltxcore.config.load import load_run
from ltxcore.encoded.manifest import read_manifest, read_source
from ltxcore.errors import DataError
from ltxcore.protocols import Source
from ltxcore.runs.checks import check_run
from ltxcore.train.start_run import run

BUCKETS = "64x64x17;64x32x17;64x64x1"
WITH_SOUND = ["square0", "square1", "wide0", "wide1"]
SILENT = ["image", "silent"]
TRAIN_WITHOUT = 'Or set missing = "train_without" under [data], if the run generates both video and audio.'
KEEP = f'or keep only its video with on_error = "skip". {TRAIN_WITHOUT}'


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips with sound for each of two buckets, a clip without sound, and an image."""
    folder = tmp_path_factory.mktemp("mixed")
    for number in range(2):
        clip_file(folder / f"square{number}.mp4", seed=number)
        clip_file(folder / f"wide{number}.mp4", seed=number, height=32)
    clip_file(folder / "silent.mp4", seed=3, sound=False)
    clip_file(folder / "image.png", seed=4, frames=1, sound=False)
    names = ["silent.mp4", "square0.mp4", "wide0.mp4", "image.png", "square1.mp4", "wide1.mp4"]
    return dataset_file(folder / "set.jsonl", [{"video": name, "caption": f"this is {name}"} for name in names])


def soundless(mixed: Path, remedies: bool) -> str:
    """The rows without sound as a message lists them."""
    folder = mixed.parent
    told = [
        (f"{mixed}:1: {folder}/silent.mp4: has no sound", f'Set skip_audio, name a sound in a column "audio", {KEEP}'),
        (
            f"{mixed}:4: {folder}/image.png: is an image, which has neither duration nor audio",
            f'Set skip_audio, or keep only its image with on_error = "skip". {TRAIN_WITHOUT}',
        ),
    ]
    return "\n".join(f"{what}\n    {remedy}" if remedies else f"  {what}" for what, remedy in told)


def run_file(mixed: Path, folder: Path, sound: bool, **options: Any) -> Path:
    """A run of two steps of two samples, of pictures alone or with sound."""
    modalities = {"video": "latents", "audio": "audio_latents"} if sound else {"video": "latents"}
    strategy = {name: {"is_generated": True, "latents_dir": source} for name, source in modalities.items()}
    told = tables(
        folder,
        folder / "out",
        lora={"target_modules": ["attn1.to_q"]},
        optimization={"steps": 2, "batch_size": 2, "gradient_accumulation_steps": 2},
        data={"dataset": str(mixed), "preprocessed_data_root": str(folder / "root"), "held_out": 0},
        preprocessing={"resolution_buckets": BUCKETS, **options},
    )
    told["training_strategy"] = {"name": "flexible", **strategy}
    return write_run(folder, told)


def trained(path: Path) -> str:
    """What a run says."""
    with heard() as said:
        assert run(load_run(path)).finished
    return said.getvalue()


def test_what_needs_no_sound_is_made_of_clips_without_and_of_images_where_the_user_says_so(mixed: Path, tmp_path: Path) -> None:
    summary = encode(mixed, tmp_path, resolution_buckets=BUCKETS, on_error="skip")
    assert str(summary) == (
        "conditions          6 made       0 reused\n"
        "latents             6 made       0 reused\n"
        "audio_latents       4 made       0 reused\n"
        f"4 samples in {tmp_path}\n"
        "2 more without audio, for video-only runs:\n" + soundless(mixed, remedies=False)
    )
    for folder in ("conditions", "latents"):
        assert sorted(read_source(tmp_path, folder)) == sorted([*SILENT, *WITH_SOUND])
    assert list(read_source(tmp_path, "audio_latents")) == WITH_SOUND
    assert {entry.shape for entry in read_source(tmp_path, "latents").values()} == {(128, 3, 2, 2), (128, 3, 1, 2), (128, 1, 2, 2)}
    again = encode(mixed, tmp_path, resolution_buckets=BUCKETS, on_error="skip")
    assert (again.done, again.reused, again.samples) == (0, 16, tuple(WITH_SOUND))


def test_the_encoded_set_alone_serves_runs_of_pictures_and_is_refused_by_those_with_sound(mixed: Path, tmp_path: Path) -> None:
    encode(mixed, tmp_path, resolution_buckets=BUCKETS, on_error="skip")
    pictures = {"text": Source("conditions", "text"), "video": Source("latents", "latents", "video")}
    assert read_manifest(tmp_path, pictures).samples == tuple(sorted([*SILENT, *WITH_SOUND]))
    with pytest.raises(DataError) as error:
        read_manifest(tmp_path, {**pictures, "audio": Source("audio_latents", "latents", "audio")})
    assert message(error) == (
        f'{tmp_path}/audio_latents: "audio_latents" lacks 2 samples of "conditions", "latents": image, silent\n'
        "    Make the missing samples with `ltx preprocess`, or remove these samples from the other folders."
    )


def test_unless_the_user_says_so_they_are_refused_where_sound_is_made(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        encode(mixed, tmp_path / "root", resolution_buckets=BUCKETS)
    assert message(error) == soundless(mixed, remedies=True)


def test_a_run_of_pictures_alone_uses_every_clip_and_image_of_every_bucket(mixed: Path, tmp_path: Path) -> None:
    said = trained(run_file(mixed, tmp_path, sound=False))
    assert f"6 samples in {tmp_path}/root, 12 files encoded now\n6 samples to train on, 0 held out\n" in said
    assert "2 more without sound" not in said
    assert sorted(path.name for path in (tmp_path / "root").iterdir() if path.is_dir()) == ["conditions", "latents"]


def test_a_run_with_sound_refuses_them_or_says_which_it_leaves_out(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        trained(run_file(mixed, tmp_path, sound=True))
    assert message(error) == soundless(mixed, remedies=True)
    path = run_file(mixed, tmp_path, sound=True, on_error="skip")
    assert check_run(load_run(path)).samples == f"4, not encoded yet; the first run encodes {mixed}"
    said = trained(path)
    assert f"4 samples in {tmp_path}/root\n2 more without audio, for video-only runs:\n{soundless(mixed, remedies=False)}\n" in said
    assert list(read_source(tmp_path / "root", "audio_latents")) == WITH_SOUND
    shutil.rmtree(tmp_path / "out")
    planned = check_run(load_run(path)).plan
    assert planned is not None
    assert planned.manifest.samples == tuple(WITH_SOUND)
    result = CliRunner().invoke(main, ["plan", str(path)])
    assert result.exit_code == 0
    assert "encoded data  0.1 MiB" in result.stdout


def test_a_clip_that_lost_its_sound_loses_its_encoded_sound_alone(tmp_path: Path) -> None:
    for number in range(2):
        clip_file(tmp_path / f"{number}.mp4", seed=number)
    path = dataset_file(tmp_path / "set.jsonl", [{"video": f"{number}.mp4", "caption": "c"} for number in range(2)])
    root = encode(path).root
    clip_file(tmp_path / "1.mp4", seed=1, sound=False)
    summary = encode(path, on_error="skip")
    assert summary.samples == ("0",)
    assert [list(read_source(root, folder)) for folder in ("conditions", "latents", "audio_latents")] == [["0", "1"], ["0", "1"], ["0"]]


def test_a_clip_without_sound_with_another_fault_is_refused_altogether(tmp_path: Path) -> None:
    clip_file(tmp_path / "good.mp4")
    clip_file(tmp_path / "short.mp4", frames=9, sound=False)
    path = dataset_file(tmp_path / "set.jsonl", [{"video": f"{name}.mp4", "caption": "c"} for name in ("good", "short")])
    summary = encode(path, resolution_buckets="64x64x17", on_error="skip")
    assert (summary.samples, summary.silent) == (("good",), ())
    assert list(read_source(summary.root, "latents")) == ["good"]
    assert [problem.what for problem in summary.refused] == ["has no sound", "has 9 frames, but the shortest bucket has 17"]
