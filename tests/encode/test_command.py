"""`ltx preprocess` as a program."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from helpers.raw_media import clip_file, dataset_file, small_set, sound_file
from helpers.refusing import Refusing, in_threads, without_sizes
from ltxcore import __version__
from ltxcore.cli.main import main
from ltxcore.cli.preprocess import preprocess
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.config.tables import keys_of
from ltxcore.encode.prompts import read_prompts
from ltxcore.encoded.manifest import read_source


def ltx(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["preprocess", *map(str, arguments), "--model-path", "tiny", "--no-progress"])


def test_preprocess_says_how_much_it_made_and_how_much_was_there(tmp_path: Path) -> None:
    path = aged(small_set(tmp_path))
    found = "resolution_buckets is 64x64x17, the size of all its clips"
    for made, reused in ((3, 0), (0, 3)):
        result = ltx(path)
        assert result.exit_code == 0
        assert result.stdout == (
            f"conditions          {made} made       {reused} reused\n"
            f"latents             {made} made       {reused} reused\n"
            f"audio_latents       {made} made       {reused} reused\n"
            f"audio_masks         {made} made       {reused} reused\n"
            f"3 samples in {tmp_path}/.precomputed\n"
            f"{path}: {found}\n"
        )
        assert ahead(result, tmp_path) == ["TMP/set.jsonl: 3 samples to encode", "  64x64x17         3 samples", SPACE] * bool(made)


SPACE = "  0.1 MiB of latents, and the text features, go to TMP/.precomputed"


def aged(dataset: Path) -> Path:
    """A dataset whose files have been there for a minute, so that a change of them cannot be missed."""
    for path in dataset.parent.rglob("*.*"):
        os.utime(path, (time.time() - 60, time.time() - 60))
    return dataset


def ahead(result: Result, folder: Path) -> list[str]:
    """What a command says before it encodes, without the free disk space."""
    return re.sub(r", where .* are free$", "", result.stderr.replace(str(folder), "TMP"), flags=re.MULTILINE).splitlines()


def test_why_samples_are_encoded_again_is_said_before_they_are(tmp_path: Path) -> None:
    path = aged(small_set(tmp_path))
    assert ltx(path).exit_code == 0
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["caption"] = "other words"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    one = ["  64x64x17         1 sample", "  text features go to TMP/.precomputed"]
    assert ahead(ltx(path), tmp_path) == ["TMP/set.jsonl: 1 sample to encode (1 since their captions have changed), 2 up to date", *one]
    assert ahead(ltx(path), tmp_path) == []
    assert ahead(ltx(path, "--overwrite"), tmp_path)[0] == "TMP/set.jsonl: 3 samples to encode"
    clip_file(tmp_path / "clips" / "0.mp4", seed=9, frames=17)
    assert ahead(ltx(path), tmp_path)[:1] == ["TMP/set.jsonl: 1 sample to encode (1 since their files may have changed), 2 up to date"]
    assert ltx(aged(path)).exit_code == 0
    assert ahead(ltx(path, "--resolution-buckets", "32x32x17"), tmp_path)[:2] == [
        "TMP/set.jsonl: 3 samples to encode (3 since their files or preprocessing options have changed)",
        "  32x32x17         3 samples",
    ]


def test_prompts_are_encoded_beside_the_samples_for_a_machine_without_a_text_encoder(tmp_path: Path) -> None:
    path = small_set(tmp_path)
    assert ltx(path, "--prompt", "a dog", "--prompt", "").exit_code == 0
    fingerprint = read_source(tmp_path / ".precomputed", "conditions").popitem()[1].encoder
    assert read_prompts(tmp_path / ".precomputed", ["a dog", ""], fingerprint).keys() == {"a dog", ""}


def test_another_dataset_is_encoded_with_the_first_to_a_folder_of_its_own(tmp_path: Path) -> None:
    for folder, name in (("sounds", "own.wav"), ("others", "other.wav")):
        sound_file(tmp_path / folder / name, seconds=1.0)
        (tmp_path / folder / name).with_suffix(".txt").write_text("a tone")
    result = ltx(tmp_path / "sounds", "--also", tmp_path / "others")
    assert result.exit_code == 0, result.output
    for folder, name in (("sounds", "own"), ("others", "other")):
        assert f"1 sample in {tmp_path}/{folder}.precomputed\n" in result.stdout
        assert list(read_source(tmp_path / f"{folder}.precomputed", "audio_latents")) == [name]


def test_a_mistake_in_another_dataset_is_told_before_anything_is_encoded(tmp_path: Path) -> None:
    path = small_set(tmp_path, 1)
    other = dataset_file(tmp_path / "other" / "set.jsonl", [{"video": "none.mp4", "caption": "a"}])
    for also, told in ((other, f'{other}:1: the video "none.mp4" is not there'), (tmp_path / "no.csv", "this dataset file does not exist")):
        result = ltx(path, "--also", also)
        assert (result.exit_code, result.stdout) == (2, "")
        assert told in result.stderr
        assert not (tmp_path / ".precomputed").exists()


def test_every_option_of_the_run_file_is_one_of_the_command() -> None:
    options = {option for parameter in preprocess.params for option in parameter.opts}
    assert {"--" + key.name.replace("_", "-") for key in keys_of(PreprocessingTable)} <= options
    assert {"--model-path", "--text-encoder-path", "--output-dir"} <= options


def test_the_options_reach_the_encoding(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4", frames=20, sound=False)
    path = dataset_file(tmp_path / "set.jsonl", [{"clip": "a.mp4", "text": "c", "more": "1"}])
    result = ltx(
        path,
        "--output-dir",
        tmp_path / "out",
        "--video-column",
        "clip",
        "--caption-column",
        "text",
        "--resolution-buckets",
        "32x32x9",
        "--skip-audio",
    )
    assert result.exit_code == 0
    assert result.stdout == (
        "conditions       1 made       0 reused\n"
        "latents          1 made       0 reused\n"
        f"1 sample in {tmp_path}/out\n"
        f'{path}: this column is not used: "more"\n'
    )
    assert read_source(tmp_path / "out", "latents")["a"].shape == (128, 2, 1, 1)


def test_durations_are_seconds_with_semicolons_between(tmp_path: Path) -> None:
    sound_file(tmp_path / "a.wav", seconds=1.5)
    path = dataset_file(tmp_path / "set.jsonl", [{"audio": "a.wav", "caption": "c"}])
    assert ltx(path, "--audio-durations", "0.5; 1.0;2").exit_code == 0
    assert read_source(tmp_path / ".precomputed", "audio_latents")["a"].shape == (8, 26, 16)
    for wrong in ("a;1", "0", "-1", ";", "inf"):
        result = ltx(path, "--audio-durations", wrong)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1] == (
            f'Error: Invalid value for \'--audio-durations\': "{wrong}" is not a list of durations; write seconds above 0 and at most 86,400, such as "2.0;4.0;8.0".'
        )


def test_a_mistake_is_a_message_and_exit_status_2(tmp_path: Path) -> None:
    path = small_set(tmp_path, 1)
    result = ltx(path, "--resolution-buckets", "60x64x17;64x64")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        "--resolution-buckets: the bucket 60x64x17 has width 60, which is not a multiple of 32\n    Use 32 or 64.\n"
        '--resolution-buckets: "64x64" is not a bucket\n    Write width x height x frames, such as "960x544x49"; separate several buckets with ";".\n'
    )


@pytest.mark.parametrize(
    ("option", "text", "what"),
    [
        ("--caption-parts", "picture;{sound", '--caption-parts: "{sound" does not name exactly one column'),
        ("--caption-separator", "", "--caption-separator: separates nothing, since it is only space"),
        ("--caption-from", "file", "Error: Invalid value for '--caption-from': 'file' is not 'folder'."),
        ("--image-crf", "52", "Error: Invalid value for '--image-crf': 52 is not in the range 0<=x<=51."),
        ("--reference-downscale-factor", "2000", "2000 is not in the range 1<=x<=1024."),
        ("--audio-durations", "1;86401", "write seconds above 0 and at most 86,400"),
    ],
)
def test_what_a_run_file_may_not_say_an_option_may_not_either(tmp_path: Path, option: str, text: str, what: str) -> None:
    path = dataset_file(tmp_path / "set.jsonl", [{"audio": "a.wav", "caption": "c"}])
    result = ltx(path, option, text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert what in result.stderr


def test_the_least_number_and_words_that_a_key_takes_are_options_too(tmp_path: Path) -> None:
    sound_file(tmp_path / "a.wav")
    result = ltx(tmp_path, "--image-crf", "0", "--caption-from", "folder", "--prefer", "video", "--output-dir", tmp_path / "out")
    assert result.exit_code == 0, result.output


def test_everything_is_made_again_and_decoded_where_the_user_says_so(tmp_path: Path) -> None:
    path, root = small_set(tmp_path, 1), tmp_path / ".precomputed"
    for options, made, reused in (((), 2, 0), ((), 0, 2), (("--overwrite",), 2, 0)):
        result = ltx(path, "--decode", *options)
        assert result.exit_code == 0
        assert result.stdout.splitlines()[0] == f"conditions          {made // 2} made       {reused // 2} reused"
        assert result.stdout.splitlines()[-1] == f"{made} made, {reused} reused in {root}/decoded"
    files = sorted(each.relative_to(root / "decoded").as_posix() for each in (root / "decoded").rglob("*.*"))
    assert files == ["audio_masks/clips/0.png", "latents/clips/0.mp4"]


def test_a_share_of_the_work_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = ltx(small_set(tmp_path, 1), "--decode")
    assert result.exit_code == 2
    assert result.stderr == (
        "--decode: works in one process only, but there are 2, which do not know when the others are done\n"
        "    Remove the option, and run `ltx decode` afterwards.\n"
    )
    assert not (tmp_path / ".precomputed").exists()


def test_what_cannot_be_decoded_since_that_command_is_switched_off_is_not_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTX_DISABLE_PLUGINS", "decode")
    result = ltx(small_set(tmp_path, 1), "--decode")
    assert result.exit_code == 2
    assert result.stderr == (
        f'--decode: the command "decode" comes from ltx {__version__} (decode), a plugin that LTX_DISABLE_PLUGINS switches off\n'
        "    Remove it from LTX_DISABLE_PLUGINS.\n"
    )
    assert not (tmp_path / ".precomputed").exists()


def test_processes_of_a_launcher_say_which_they_are_and_the_first_makes_all_if_the_other_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_set(tmp_path)
    for rank, made in ((0, 3), (1, 0)):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        result = ltx(path)
        assert result.exit_code == 0
        assert result.stdout.splitlines()[:2] == [f"process {rank} of 2:", f"conditions          {made} made       {3 - made} reused"]


def test_the_help_comes_without_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text('raise ImportError("torch was imported")\n')
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "ltxcore", "preprocess", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "--resolution-buckets" in result.stdout


def test_captions_for_which_memory_does_not_suffice_are_said_with_what_takes_less(tmp_path: Path) -> None:
    path = small_set(tmp_path)
    with Refusing("_captions"):
        result = ltx(path, "--batch-size", "8")
    assert (result.exit_code, result.stdout) == (2, "")
    assert without_sizes("".join(result.stderr.splitlines(keepends=True)[3:])) == (
        "CPU memory ran out (this process took up to SOME; 2.00 GiB more were requested) while encoding captions, 8 at a time\n"
        "    Each of these needs less memory: a smaller --batch-size than 8; --offload-text-encoder. "
        "What was encoded so far is kept; run the same command again to do the rest.\n"
    )


def test_a_clip_for_which_memory_does_not_suffice_ends_the_command_which_then_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_set(tmp_path)
    with monkeypatch.context() as patched:
        in_threads(Refusing("_encode_sample", "encode"), patched)
        result = ltx(path, "--workers", "1", "--on-error", "skip")
    assert (result.exit_code, result.stdout) == (2, "")
    assert without_sizes("".join(result.stderr.splitlines(keepends=True)[3:])).replace(str(tmp_path), "TMP") == (
        'CPU memory ran out (this process took up to SOME; 2.00 GiB more were requested) while encoding "latents" of TMP/set.jsonl:1, of 64x64x17\n'
        "    Each of these needs less memory: --vae-tiling; smaller --resolution-buckets, or fewer frames in them. "
        "What was encoded so far is kept; run the same command again to do the rest.\n"
    )
    again = ltx(path)
    assert again.exit_code == 0
    assert "conditions          0 made       3 reused\n" in again.stdout
    assert f"3 samples in {tmp_path}/.precomputed\n" in again.stdout
