"""`ltx check` finds what can be found without running, and says what the run is."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from helpers.raw_media import clip_file, sound_file
from helpers.training_runs import put, sound_set
from ltxcore.cli import check as command
from ltxcore.cli.main import main

NOT_HERE = f"{command.NOT_HERE}\n"

RUN = """\
output_dir = "out"
[model]
model_path = "tiny-untrained"
[lora]
rank = 4
target_modules = ["audio_attn1.to_k"]
[training_strategy]
name = "flexible"
[training_strategy.audio]
is_generated = true
latents_dir = "audio_latents"
conditions = [
  { type = "mask", mask_dir = "audio_masks" },
  { type = "prefix", temporal_boundary = 2, probability = 0.25 },
]
[optimization]
steps = 8
batch_size = 2
[data]
preprocessed_data_root = "set"
held_out = 1
"""


@pytest.fixture
def run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on an encoded set of four sounds."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.toml"
    path.write_text(RUN)
    sound_set(tmp_path / "set", count=4)
    return path


def check(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["check", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_a_run_that_is_in_order_is_told_in_a_few_lines(run_file: Path) -> None:
    assert check("run.toml") == (
        0,
        "run.toml is valid.\n"
        "  mode        LoRA of rank 4 on tiny-untrained\n"
        "  strategy    flexible\n"
        "  audio       generated, mask, prefix (probability 0.25)\n"
        "  steps       8, batch size 2\n"
        "  samples     3 to train on, 1 held out\n"
        "The run trains on each of 3 samples 4 times; 1 of 2 micro-batches is not full: 1.5 of 2 on average.\n" + NOT_HERE,
        "",
    )


def test_objectives_are_told_with_their_weights_and_probabilities(run_file: Path) -> None:
    several = '[{type="flow_matching"}, {type="preservation", prompt="rain", weight={audio=0.5}, probability=0.25}]'
    out = check("run.toml", "--set", f"objectives={several}")[1]
    assert "  objectives  flow_matching, preservation (weight { audio = 0.5 }, probability 0.25)\n" in out


def test_settings_are_checked_too(run_file: Path) -> None:
    settings = ("--set", "model.training_mode=full", "--set", "optimization.gradient_accumulation_steps=4", "--set", "data.held_out=0")
    assert check("run.toml", *settings)[1] == (
        "run.toml is valid.\n"
        "  mode        full fine-tuning on tiny-untrained\n"
        "  strategy    flexible\n"
        "  audio       generated, mask, prefix (probability 0.25)\n"
        "  steps       8, batch size 2, 4 accumulated\n"
        "  samples     4 to train on, 0 held out\n"
        "The run trains on each of 4 samples 16 times.\n" + NOT_HERE
    )


def test_raw_media_are_counted_and_their_headers_are_read_before_they_are_encoded(run_file: Path, tmp_path: Path) -> None:
    settings = ("--set", "data.dataset=set.jsonl", "--set", "data.preprocessed_data_root=new", "--set", "data.held_out=0")
    sound_file(tmp_path / "a.wav")
    (tmp_path / "set.jsonl").write_text('{"audio": "a.wav", "audio_mask": "a.wav", "caption": "c"}')
    status, out, _ = check("run.toml", *settings)
    assert status == 0
    passes = "the run trains on the one sample 8 times; the only micro-batch is not full: 1 of 2 on average."
    assert out.endswith(
        f"  samples     1, not encoded yet; the first run encodes {tmp_path}/set.jsonl\nIf all samples have the same shape, {passes}\n{NOT_HERE}"
    )
    (tmp_path / "a.wav").write_bytes(b"")
    assert check("run.toml", *settings)[2].startswith(f"{tmp_path}/set.jsonl:1: {tmp_path}/a.wav: this is not a clip")
    assert not (tmp_path / "new").exists()


def test_mistakes_are_printed_and_nothing_is_written(run_file: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert check("run.toml", "--set", "lora.rank=0", "--set", "seed=x") == (
        2,
        "",
        '--set: lora.rank: must be at least 1, not 0\n--set: seed: must be a whole number, not the text "x"\n',
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_what_the_manifests_tell_is_found(run_file: Path, tmp_path: Path) -> None:
    put(tmp_path / "set", "audio_masks", "sound02", {"mask": torch.ones(5)})
    assert check("run.toml") == (
        2,
        "",
        'run.toml:13: training_strategy.audio.conditions[0].mask_dir: 1 mask of "audio_masks" does not fit the audio latents: sound02 (5 for 8)\n'
        "    Make masks from the same media as the latents, with one value per latent step.\n",
    )


def test_whoever_runs_a_check_from_python_has_garbage_collected_afterwards(run_file: Path) -> None:
    assert check(str(run_file))[0] == 0
    assert check("nothing.toml")[0] == 2
    assert gc.isenabled()


def test_a_missing_file_is_named() -> None:
    assert check("gone.toml") == (2, "", "gone.toml: there is no such file\n    Name a run file; `ltx new` writes one.\n")


def raw_run(folder: Path, dataset: str, **preprocessing: str) -> Path:
    """A run of pictures alone on raw media."""
    keys = "".join(f"{name} = {value}\n" for name, value in preprocessing.items())
    path = folder / "raw.toml"
    path.write_text(
        f'output_dir = "out"\n[model]\nmodel_path = "tiny-untrained"\n[lora]\nrank = 4\ntarget_modules = ["attn1.to_k"]\n'
        '[training_strategy]\nname = "flexible"\n[training_strategy.video]\nis_generated = true\nlatents_dir = "latents"\n'
        f'[data]\ndataset = "{dataset}"\nheld_out = 0\n[preprocessing]\n{keys}'
    )
    return path


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two clips, a picture and a sound, all with captions."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "clips"
    clip_file(folder / "a.mp4", frames=33)
    clip_file(folder / "beach/b.mp4", width=96, frames=20, sound=False)
    clip_file(folder / "c.png", width=96, frames=1, sound=False)
    sound_file(folder / "d.wav")
    for name in ("a", "beach/b", "c", "d"):
        (folder / f"{name}.txt").write_text(f"this is {name}")
    (folder / ".DS_Store").touch()
    return folder


SEEN = """\
clips is a dataset of 4 samples.
  clips       2: 64 x 64, 96 x 64 pixels, 17 to 33 frames, 16 per second, 1 with audio
  images      1: 96 x 64 pixels
  sounds      1: 1.06 s
  captions    4 of 4: 3 words
  encoded in  {root} (not yet encoded)
clips: left out: 1 hidden or system file
To keep roughly the size of the clips, write under [preprocessing] in a run file (smaller buckets need less memory, see `ltx plan`):
resolution_buckets = "96x64x17;96x64x1;64x64x33"
"""


def test_a_folder_is_shown_as_it_is_understood_with_buckets_that_can_be_used(clips: Path) -> None:
    (clips / "beach/b.mp4").unlink()
    clip_file(clips / "beach/b.mp4", width=96, frames=17, sound=False)
    assert check("clips/") == (0, SEEN.format(root=clips.parent / "clips.precomputed"), "")
    line = SEEN.splitlines()[-1].partition(" = ")[2]
    path = raw_run(clips.parent, "clips/", resolution_buckets=line, on_error='"skip"')
    assert check(str(path))[:2] == (
        0,
        f"{path} is valid.\n  mode        LoRA of rank 4 on tiny-untrained\n  strategy    flexible\n  video       generated\n"
        f"  steps       3000, batch size 2\n  samples     3, not encoded yet; the first run encodes {clips}\n"
        f"{clips}: left out: 1 hidden or system file\n"
        f'{clips}: left out (on_error = "skip"):\n  {clips}/d.wav: has audio but no video\n'
        "Judging by the headers, the run trains on each of 3 samples 1,000 times; 3 of 3 micro-batches are not full "
        f"(each holds samples of one shape, and there are 3 shapes): 1 of 2 on average.\n{NOT_HERE}",
    )
    assert not (clips.parent / "clips.precomputed").exists()


def test_masks_are_counted_apart_from_the_images(clips: Path) -> None:
    clip_file(clips / "masks/c.png", width=96, frames=1, sound=False)
    (clips / "c.jsonl").write_text('{"video": "c.png", "video_mask": "masks/c.png", "caption": "c"}\n')
    status, out, _ = check("clips/c.jsonl")
    assert (status, out.splitlines()[1:3]) == (0, ["  images      1: 96 x 64 pixels", "  companions  1 video_mask"])


def test_a_folder_that_cannot_be_used_is_shown_and_fails(clips: Path) -> None:
    (clips / "d.txt").unlink()
    (clips / "broken.mp4").write_text("no")
    (clips / "broken.txt").write_text("broken")
    status, out, err = check("clips")
    assert status == 2
    assert out.startswith("clips is a dataset of 5 samples.\n  clips       2: ")
    assert "  captions    4 of 5: 3 words\n" in out.replace("1 to 3", "3")
    assert err.startswith("clips: has 1 file without a caption: d.wav\n")
    assert "clips/broken.mp4: this is not a clip, a sound or an image that can be read\n" in err
    status, out, err = check("clips", "--set", "on_error=skip")
    assert (status, err) == (0, "")
    assert '2 left out (on_error = "skip"):\n  clips/d.wav: has no caption\n  clips/broken.mp4: this is not a clip' in out


def test_settings_of_a_dataset_are_keys_of_preprocessing(clips: Path) -> None:
    for path in clips.rglob("*.txt"):
        path.unlink()
    assert check("clips", "--set", "preprocessing.caption_from=folder", "--set", "skip_audio=true")[0] == 0
    status, _, err = check("clips", "--set", "caption_form=folder", "--set", "prefer=sound")
    assert status == 2
    assert err.startswith('--set: caption_form: there is no such key\n    Did you mean "caption_from"?\n--set: prefer: ')


def test_a_dataset_file_is_shown_too(clips: Path) -> None:
    (clips / "set.csv").write_text("file_name;text\na.mp4;one\nbeach\\b.mp4;two\n")
    status, out, err = check("clips/set.csv")
    assert (status, err) == (0, "")
    assert out == (
        "clips/set.csv is a dataset of 2 samples.\n"
        "  clips       2: 64 x 64, 96 x 64 pixels, 20 to 33 frames, 16 per second, 1 with audio\n"
        "  captions    2 of 2: 1 word\n"
        f"  encoded in  {clips}/.precomputed (not yet encoded)\n"
        'clips/set.csv: 1 path with backslashes, such as "beach\\b.mp4", are read with "/"\n'
        "To keep roughly the size of the clips, write under [preprocessing] in a run file (smaller buckets need less memory, see `ltx plan`):\n"
        'resolution_buckets = "96x64x17;64x64x33"\n'
    )


def test_a_run_without_buckets_gets_a_line_of_them_from_its_clips(clips: Path) -> None:
    path = raw_run(clips.parent, "clips", on_error='"skip"')
    assert check(str(path)) == (
        2,
        "",
        f"{clips}: the clips have 3 sizes (width x height x frames): 64x64x33, 96x64x1, 96x64x20\n"
        '    Set resolution_buckets, such as resolution_buckets = "96x64x17;96x64x1;64x64x33".\n',
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "has no rows"),
        (b"\xff\xfe\x00", "is not UTF-8 text (byte 0)"),
        (b'{"video": "a.mp4", "caption"', "is not a JSON object"),
        (b'{"video": "gone.mp4", "caption": "c"}\n', 'the video "gone.mp4" is not there'),
    ],
)
def test_the_rows_of_a_dataset_that_is_not_encoded_yet_are_read(clips: Path, content: bytes, told: str) -> None:
    (clips / "set.jsonl").write_bytes(content)
    status, out, err = check(str(raw_run(clips.parent, "clips/set.jsonl")))
    assert (status, out) == (2, "")
    assert told in err
    (clips / "good.jsonl").write_text('{"video": "a.mp4", "caption": "c"}\n')
    path = raw_run(clips.parent, "clips/good.jsonl")
    assert check(str(path))[0] == 0
    path.write_text(path.read_text().replace("held_out = 0", 'held_out = "clips/set.jsonl"'))
    status, out, err = check(str(path))
    assert (status, told in err) == (2, True)


def test_a_dataset_that_is_not_there_is_told_at_its_line(clips: Path) -> None:
    path = raw_run(clips.parent, "clip")
    assert (
        check(str(path))[2]
        == f"{path}:13: data.dataset: there is no file or folder {clips.parent}/clip\n    Paths are relative to the run file.\n"
    )
