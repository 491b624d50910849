"""`ltx new` writes run files, tells what they lack, and writes over nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.raw_media import clip_file, sound_file
from ltxcore.cli.main import main
from ltxcore.config.load import load_run
from ltxcore.new.modes import MODES

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["new", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def clips(here: Path) -> Path:
    """Five clips, of which one has no text beside it."""
    for number in range(5):
        clip_file(here / "clips" / f"{number}.mp4", seed=number, frames=33)
        if number:
            (here / "clips" / f"{number}.txt").write_text(f"a square of kind {number}")
    return here / "clips"


def test_without_a_mode_all_are_listed_with_a_line_each() -> None:
    code, said, _ = new()
    assert code == 0
    assert [row.split()[0] for row in said.partition("\n\n")[0].splitlines()] == list(MODES)


def test_a_mode_that_is_none_is_told_with_the_nearest_ones_and_all_of_them() -> None:
    code, _, told = new("t2x")
    assert code == 2
    assert told.startswith('there is no mode "t2x"\n    Did you mean "t2a" or "t2v"?\n')
    assert all(f"    {name} " in told for name in MODES)


def test_a_run_file_for_clips_tells_what_was_found_and_all_that_is_still_to_be_filled_in(clips: Path) -> None:
    code, said, _ = new("t2v", "--data", "clips", "-o", "runs/mine.toml")
    assert code == 0
    lines = said.splitlines()
    assert lines[0] == "Wrote runs/mine.toml."
    assert "  captions    4 of 5: 5 words" in lines
    assert (
        "5 clips are few for a style: we recommend 15 to 60. Look at the samples early, and use an earlier checkpoint if they begin to repeat the clips."
        in lines
    )
    at = lines.index("Still to be filled in or corrected (`ltx check runs/mine.toml` lists it again):")
    assert "there is no file or folder /models/ltx-2.3-22b-dev.safetensors" in lines[at + 1]
    assert (
        '1 file has no caption, and is captioned with the name of the folder: caption_from = "folder". '
        "`ltx caption clips` writes captions, which are then used instead." in lines
    )
    assert not any("without a caption" in line for line in lines)
    assert lines[-1] == "Start it: ltx run runs/mine.toml"
    written = Path("runs/mine.toml").read_text()
    assert 'dataset = "../clips/"\n' in written
    assert 'resolution_buckets = "64x64x33"' in written


def test_columns_that_a_mode_needs_are_told_where_the_data_lack_them(clips: Path) -> None:
    (clips / "0.txt").write_text("another")
    code, said, _ = new("v2v_ic", "--data", "clips", "--model", "tiny")
    assert code == 0
    assert "Name files for it: clip_reference.png or references/clip.png goes with clip.mp4." in said


def test_a_folder_without_any_caption_is_fitted_all_the_same(clips: Path) -> None:
    for text in clips.glob("*.txt"):
        text.unlink()
    code, said, _ = new("t2v", "--data", "clips", "--model", "tiny")
    assert code == 0
    assert '5 files have no caption, and are captioned with the name of the folder: caption_from = "folder".' in said
    assert "t2v.toml is valid." in said
    assert load_run(Path("t2v.toml")).config.preprocessing.caption_from == "folder"


def test_the_name_of_the_folder_is_no_caption_where_masks_would_get_it_too(clips: Path) -> None:
    clip_file(clips / "1_mask.mp4", seed=9, frames=33)
    _, said, _ = new("t2v", "--data", "clips", "--model", "tiny")
    assert "has 1 file without a caption: 0.mp4" in said
    assert "caption_from" not in Path("t2v.toml").read_text()


def test_a_silent_clip_is_left_out_only_where_a_mode_needs_its_audio(clips: Path) -> None:
    clip_file(clips / "5.mp4", seed=5, frames=33, sound=False)
    (clips / "5.txt").write_text("nothing is heard")
    _, said, _ = new("t2v", "--data", "clips", "--model", "tiny")
    assert '1 file has no audio, and is trained on without it: missing = "train_without".' in said
    config = load_run(Path("t2v.toml")).config
    assert (config.data.missing, config.optimization.batch_size) == ("train_without", 5)  # of six clips, one is held out
    _, said, _ = new("a2v", "--data", "clips", "--model", "tiny")
    assert '1 file has no audio, and is left out: on_error = "skip".' in said
    assert load_run(Path("a2v.toml")).config.optimization.batch_size == 4  # of five clips with audio, one is held out
    _, said, _ = new("v2v_ic", "--data", "clips", "--model", "tiny")
    assert "no audio" not in said
    assert load_run(Path("v2v_ic.toml")).config.optimization.batch_size == 5


def test_a_run_file_for_the_tiny_model_is_in_order_as_it_is_written(clips: Path) -> None:
    (clips / "0.txt").write_text("another")
    code, said, _ = new("video_extend", "--data", "clips", "--model", "tiny")
    assert (code, said.splitlines()[-2:]) == (0, ["video_extend.toml is valid.", "Start it: ltx run video_extend.toml"])
    config = load_run(Path("video_extend.toml")).config
    assert (config.optimization.batch_size, config.data.held_out) == (4, 1)
    assert [use.condition.temporal_boundary for use in config.training_strategy.video.conditions] == [2]


def test_data_that_a_mode_cannot_use_are_told(here: Path) -> None:
    sound_file(here / "sounds" / "a.wav")
    (here / "sounds" / "a.txt").write_text("a tone")
    code, _, told = new("t2v", "--data", "sounds")
    assert code == 2
    assert (
        told
        == "sounds: contains no clips or pictures for t2v to train on\n    Name other data, or an audio mode: `ltx new` lists the modes.\n"
    )
    assert not Path("t2v.toml").exists()
    assert new("t2a", "--data", "nowhere")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("t2a", "--for", "motion"), "--for: t2a does not train a LoRA for a motion\n    This mode works with: style, subject, voice.\n"),
        (("t2v", "--for", "ic-lora"), "--for: t2v does not train an IC-LoRA\n    This mode works with: style, subject, motion, voice.\n"),
        (
            ("full_finetune", "--for", "style"),
            "--for: full_finetune does not train a LoRA for a style\n    Leave --for out: it only applies to LoRAs.\n",
        ),
    ],
)
def test_what_a_mode_does_not_train_is_refused(arguments: tuple[str, ...], told: str) -> None:
    assert new(*arguments) == (2, "", told)


def test_nothing_is_written_over_unless_the_user_says_so(here: Path) -> None:
    (here / "t2v.toml").write_text("mine")
    refused = "t2v.toml already exists\n    Name another file with -o, or overwrite it with --force.\n"
    assert new("t2v") == (2, "", refused)
    assert (here / "t2v.toml").read_text() == "mine"
    assert new("t2v", "--force")[0] == 0
    assert (here / "t2v.toml").read_text().startswith("# Text to video with audio.\n")


def test_the_demo_uses_its_clips_where_they_are_and_leaves_others_alone(here: Path) -> None:
    (here / "media").mkdir()
    shutil.copy(EXAMPLES / "media" / "clips.jsonl", here / "media")
    assert new("v2a", "--demo", ".") == (0, "Wrote v2a.toml.\nStart it: ltx run v2a.toml\n", "")
    assert (here / "v2a.toml").read_text() == (EXAMPLES / "v2a.toml").read_text()
    assert new("full_finetune_zero3", "--demo", ".")[1].endswith("Start it: ltx launch --num-gpus 2 full_finetune_zero3.toml\n")
    (here / "media" / "clips.jsonl").write_text(json.dumps({"video": "my.mp4", "caption": "mine"}))
    code, _, told = new("t2a", "--demo", ".")
    assert (code, told) == (2, "media already exists, and its content is not that of the demo\n    Name another folder with --demo.\n")
    assert not (here / "t2a.toml").exists()


def test_a_demo_is_of_the_tiny_model_on_clips_of_its_own() -> None:
    assert new("t2v", "--demo", ".", "--model", "2.3")[0] == 2
    assert new("t2v", "--demo", ".", "--data", "clips")[0] == 2
