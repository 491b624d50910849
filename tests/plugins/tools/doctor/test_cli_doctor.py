"""`ltx doctor` as a program: what it prints, and its exit status for scripts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.mixed_sets import mixed_set, mixed_tables
from helpers.raw_media import encode
from helpers.training_runs import write_run
from ltxcore.cli.main import main
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.config.tables import keys_of
from ltxplugins.tools.doctor.command import doctor
from plugins.tools.doctor.healthy import change_row, put_clip, write_rows


def ltx(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["doctor", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def looked(folder: Path) -> str:
    return (
        "Examined\n"
        f"  {folder}/set.jsonl: resolution_buckets is 64x64x17, the size of all its clips.\n"
        f"  {folder}/set.jsonl: 3 rows without errors, for audio_latents, conditions, latents.\n"
        "  3 media files: opened; the first frame of each clip was decoded (--deep decodes all that are used), and so were the parts of sounds and masks that are used.\n"
        "  Sizes were checked for all LTX-2 models, because no --model-path was given.\n"
        f"  {folder}/.precomputed: 0 of 3 samples are encoded; `ltx preprocess` or the first run encodes the others.\n"
    )


@pytest.fixture
def clips(raw: Path) -> Path:
    """The healthy set without masks and references."""
    write_rows(raw, [{"video": f"clips/{number}.mp4", "caption": f"clip number {number}"} for number in range(3)])
    return raw


def test_where_nothing_is_wrong_it_says_what_it_looked_at(clips: Path) -> None:
    assert ltx(clips / "set.jsonl") == (0, f"{looked(clips)}\nNothing is wrong.\n", "")


def test_warnings_alone_are_no_failure_unless_the_user_is_strict(clips: Path) -> None:
    change_row(clips, 2, caption="")
    text = (
        "warning empty-caption\n"
        f"  {clips}/set.jsonl:2: the caption is empty\n"
        "    Describe the clip, or leave the caption empty if the run should learn without text.\n"
        f"\n{looked(clips)}\n1 warning\n"
    )
    assert ltx(clips / "set.jsonl") == (0, text, "")
    assert ltx(clips / "set.jsonl", "--strict") == (1, text, "")


def test_errors_come_before_warnings_and_fail(clips: Path) -> None:
    change_row(clips, 1, caption="")
    put_clip(clips / "clips/1.mp4", 1, frames=9)
    status, out, _ = ltx(clips / "set.jsonl", "--resolution-buckets", "64x64x17")
    assert status == 1
    assert out.startswith(
        "error unusable\n"
        f"  {clips}/set.jsonl:2: {clips}/clips/1.mp4: has 9 frames, but the shortest bucket has 17\n"
        '    Add a shorter bucket, or leave it out with on_error = "skip".\n'
        "\n"
        "warning empty-caption\n"
        f"  {clips}/set.jsonl:1: the caption is empty\n"
    )
    assert out.endswith("\n1 error, 1 warning\n")


def test_of_many_findings_of_a_kind_five_are_listed_and_all_on_demand(clips: Path) -> None:
    text = "".join(json.dumps({"audio": f"{number}.wav", "caption": ""}) + "\n" for number in range(8))
    (clips / "sounds.jsonl").write_text(text)
    status, out, _ = ltx(clips / "sounds.jsonl")
    assert status == 1
    assert out.startswith("error dataset (8)\n")
    assert "5.wav" not in out
    assert "  and 3 more like these (--all lists them)\n" in out
    assert f'{clips}/sounds.jsonl:8: the audio "7.wav" is not there' in ltx(clips / "sounds.jsonl", "--all")[1]


def test_a_program_gets_json(clips: Path) -> None:
    change_row(clips, 3, caption="")
    status, out, err = ltx(clips / "set.jsonl", "--json")
    told = json.loads(out)
    assert (status, err) == (0, "")
    assert told["findings"] == [
        {
            "check": "empty-caption",
            "severity": "warning",
            "where": f"{clips}/set.jsonl:3",
            "what": "the caption is empty",
            "remedy": "Describe the clip, or leave the caption empty if the run should learn without text.",
        }
    ]
    assert (told["target"], told["errors"], told["warnings"]) == (f"{clips}/set.jsonl", 0, 1)
    assert looked(clips) == "Examined\n" + "".join(f"  {sentence}\n" for sentence in told["looked_at"])


def test_a_mistake_of_use_is_status_2(clips: Path) -> None:
    path = clips / "set.jsonl"
    assert ltx(clips / "none.jsonl") == (
        2,
        "",
        f"{clips}/none.jsonl: there is no such file or folder\n    Name a dataset file, a folder of media, an encoded set or a run file.\n",
    )
    status, out, err = ltx(path, "--resolution-buckets", "60x64x17")
    assert (status, out) == (2, "")
    assert err == "--resolution-buckets: the bucket 60x64x17 has width 60, which is not a multiple of 32\n    Use 32 or 64.\n"


def test_options_that_would_have_no_effect_are_refused(clips: Path) -> None:
    encoded = clips / "encoded"
    (encoded / "latents").mkdir(parents=True)
    status, _, err = ltx(encoded, "--skip-audio")
    assert status == 2
    assert err.endswith(f"Error: --skip-audio is for a dataset, but {encoded} is an encoded set.\n")
    status, _, err = ltx("run.toml", "--model-path", "tiny")
    assert status == 2
    assert err.endswith("Error: --model-path is for a dataset, but run.toml is a run file.\n")
    status, _, err = ltx(clips / "set.jsonl", "--set", "seed=1")
    assert status == 2
    assert err.endswith(f"Error: --set is for a run file, but {clips}/set.jsonl is a dataset.\n")


def test_every_option_of_preprocessing_is_one_of_the_command() -> None:
    options = {option for parameter in doctor.params for option in parameter.opts}
    assert {"--" + key.name.replace("_", "-") for key in keys_of(PreprocessingTable)} <= options


@pytest.fixture
def folder(clips: Path) -> Path:
    """The clips as a folder of media, each with its caption beside it."""
    for number in range(3):
        (clips / f"clips/{number}.txt").write_text(f"clip number {number}")
    return clips / "clips"


def test_a_folder_of_media_is_told_from_an_encoded_set(folder: Path) -> None:
    status, out, err = ltx(folder, "--resolution-buckets", "64x64x17")
    assert (status, err) == (0, "")
    assert out == (
        "Examined\n"
        f"  {folder}: taken for a folder of media, since it has media and no encoded samples.\n"
        f"  {folder}: 3 files without errors, for audio_latents, conditions, latents.\n"
        "  3 media files: opened; the first frame of each clip was decoded (--deep decodes all that are used), and so were the parts of sounds and masks that are used.\n"
        "  Sizes were checked for all LTX-2 models, because no --model-path was given.\n"
        f"  {folder}.precomputed: 0 of 3 samples are encoded; `ltx preprocess` or the first run encodes the others.\n"
        "\nNothing is wrong.\n"
    )
    root = encode(folder).root
    assert f"  {root}: 3 of 3 samples are encoded.\n" in ltx(folder, "--model-path", "tiny")[1]
    assert f"  {root}: 9 encoded files in audio_latents, conditions, latents;" in ltx(root)[1]
    (folder / "1.txt").write_text("an edited caption")
    assert f"warning stale\n  {folder}/1.mp4: {root}/conditions/1.safetensors was made with a caption other than" in ltx(folder)[1]


def test_what_is_wrong_with_a_folder_is_found_at_its_files(folder: Path) -> None:
    (folder / "0.txt").write_text("clip number 1")
    (folder / "2.txt").unlink()
    shutil.copy(folder / "0.mp4", folder / "copy.mp4")
    (folder / "copy.txt").write_text("the same clip")
    put_clip(folder / "2.mp4", 1, frames=9)
    status, out, _ = ltx(folder, "--resolution-buckets", "64x64x17")
    assert status == 1
    assert out.startswith(f"error dataset\n  {folder}: has 1 file without a caption: 2.mp4\n")
    assert f"error unusable\n  {folder}/2.mp4: has 9 frames, but the shortest bucket has 17\n" in out
    assert f'warning duplicate-caption\n  {folder}/1.mp4: the caption is the same as that of "0.mp4"\n' in out
    assert f'warning duplicate-clip\n  {folder}/copy.mp4: is a copy of "0.mp4"\n    Keep one of the files, or it counts twice.\n' in out
    status, out, _ = ltx(folder, "--resolution-buckets", "64x64x17", "--on-error", "skip")
    assert (status, out.startswith(f"warning dataset\n  {folder}/2.mp4: has no caption\n")) == (0, True)


def test_the_folder_of_a_dataset_file_that_is_encoded_is_still_taken_for_that(clips: Path) -> None:
    root = encode(clips / "set.jsonl").root
    status, out, _ = ltx(clips)
    assert status == 0
    assert f"  {clips}: taken for the folder of a dataset file, since it has .precomputed, which was checked; its media were not.\n" in out
    assert f"  {root}: 9 encoded files in audio_latents, conditions, latents;" in out
    out = ltx(clips, "--samples", "1")[1]
    assert "; only the 3 files of 1 of 3 samples were read (--samples): the bytes of all were compared with their checksums." in out


def test_a_set_whose_samples_lack_modalities_is_right_only_where_they_may(tmp_path: Path) -> None:
    root = mixed_set(tmp_path / "data")
    status, said, _ = ltx(root)
    assert status == 1
    assert '"audio_latents" lacks 4 samples' in said
    assert '"latents" lacks 2 samples' in said
    counted = f"  {root}: 4 samples have video and audio, 4 video alone and 2 audio alone.\n"
    for target, options in ((root, ["--missing", "train_without"]), (write_run(tmp_path, mixed_tables(root, tmp_path / "out")), [])):
        status, said, _ = ltx(target, *options)
        assert (status, counted in said) == (0, True)
    status, _, wrong = ltx(tmp_path / "run.toml", "--missing", "train_without")
    assert (status, "--missing is for a dataset" in wrong) == (2, True)
