"""Samples of `[validation]`: when they are drawn, of what, and that training does not notice."""

from __future__ import annotations

import filecmp
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch.optim import Optimizer

from helpers.golden_models import write_golden
from helpers.sample_made import PLAIN, encoded, image_file, planned, sound_file
from helpers.training_runs import STOPPER, loaded_run, message, sound_set, tables, write_run
from ltxcore.codecs.source import Codecs
from ltxcore.config.load import load_run
from ltxcore.engines.optim import state_in_host_memory
from ltxcore.errors import ConfigError
from ltxcore.media.probe import probe
from ltxcore.models import TINY_BASE
from ltxcore.models.backbone import LTXBackbone
from ltxcore.protocols import Engine
from ltxcore.runs.checks import check_run
from ltxcore.sample.encode_inputs import Encoded
from ltxcore.train.generations import Validation, dealt, named
from ltxcore.train.held_out_generations import Generation
from ltxcore.train.out_of_memory import Spared
from ltxcore.train.outcome import Outcome
from ltxcore.train.start_run import run
from ltxcore.train.validation_loss import held_out_interval

MEDIA = Path(__file__).parents[2] / "examples" / "media"

SOUND = {"video_dims": [32, 32, 9], "frame_rate": 24.0, "inference_steps": 2, **PLAIN}
"""A third of a second of sound, in two passes."""

UNMEASURED = {"data": {"held_out": 0}}
"""Nothing is held out, where nothing is to be seen of that."""

TWO = [{"prompt": "a reedy tone"}, {"prompt": "a glassy tone"}]

COUNTER = '''
"""A tracker that counts codecs and text encoders that are alive after a step of training."""
import gc
import attrs
from ltxcore.api import hookimpl

@attrs.define
class Counter:
    path: str

    def start(self, output_dir, run, total_steps, first_step):
        pass

    def log(self, step, metrics):
        if "loss" in metrics:
            found = [type(each).__name__ for each in gc.get_objects() if str(type(each).__module__).startswith("ltxcore.codecs.tiny_")]
            with open(self.path, "a") as file:
                file.write(",".join([str(step), *found]) + "\\n")

    def sample(self, step, name, path):
        pass

    def finish(self):
        pass

@hookimpl
def ltx_trackers():
    return {"counter": Counter}
'''


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_set(tmp_path_factory.mktemp("data") / "data")


def ran(root: Path, folder: Path, validation: Mapping[str, Any], **changed: Any) -> Outcome:
    folder.mkdir(exist_ok=True)
    return run(load_run(write_run(folder, tables(root, folder / "out", validation={**SOUND, **validation}, **changed))))


@pytest.fixture(scope="module")
def drawn(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Four steps, with samples before them, after every other one, and at the end."""
    return ran(data, tmp_path_factory.mktemp("drawn"), {"interval": 2, "samples": TWO})


def lines(outcome: Outcome) -> list[dict[str, Any]]:
    return [json.loads(line) for line in outcome.metrics.read_text().splitlines()]


def losses(outcome: Outcome) -> list[dict[str, Any]]:
    """The lines of training steps, without what depends on the clock or the machine."""
    apart = ("step_seconds", "tokens_per_second", "peak_memory_gib")
    return [{key: value for key, value in line.items() if key not in apart} for line in lines(outcome) if "loss" in line]


def samples(outcome: Outcome) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (outcome.output_dir / "samples").iterdir()}


# ---------------------------------------------------------------- when


def test_samples_are_drawn_before_training_at_intervals_and_at_the_end(drawn: Outcome) -> None:
    assert sorted(samples(drawn)) == [f"step_{step:06d}_{index}.wav" for step in (0, 2, 4) for index in (1, 2)]
    assert [(line["step"], line["sample"]) for line in lines(drawn) if "sample" in line] == [
        (step, name) for step in (0, 2, 4) for name in ("a reedy tone", "a glassy tone")
    ]
    assert [(clip.name, clip.path.name, clip.before and clip.before.name, clip.original) for clip in drawn.generations] == [
        ("a reedy tone", "step_000004_1.wav", "step_000000_1.wav", None),
        ("a glassy tone", "step_000004_2.wav", "step_000000_2.wav", None),
    ]


def test_samples_change_as_the_model_does(drawn: Outcome) -> None:
    found = samples(drawn)
    assert len({found[f"step_{step:06d}_1.wav"] for step in (0, 2, 4)}) == 3


def test_the_first_ones_can_be_skipped_and_those_at_intervals_left_out(data: Path, tmp_path: Path, drawn: Outcome) -> None:
    outcome = ran(data, tmp_path, {"interval": 0, "skip_initial_validation": True, "samples": TWO})
    assert samples(outcome) == {name: found for name, found in samples(drawn).items() if name.startswith("step_000004")}


def test_held_out_losses_are_measured_in_the_course_of_training(drawn: Outcome) -> None:
    assert [line["step"] for line in lines(drawn) if "held_out/own_context/clips" in line] == [0, 2, 4]


@pytest.mark.parametrize(
    ("interval", "steps", "expected"), [(100, 500, 100), (100, 3000, 300), (100, 3001, 400), (1, 4, 1), (250, 100, 250)]
)
def test_that_is_at_whole_intervals_of_validation_and_ten_times_at_most(interval: int, steps: int, expected: int) -> None:
    assert held_out_interval(interval, steps) == expected


def test_a_run_that_was_stopped_draws_and_measures_what_was_due_when_it_goes_on(data: Path, tmp_path: Path, drawn: Outcome) -> None:
    (tmp_path / "stopper.py").write_text(STOPPER)
    stopper = {"plugins": [str(tmp_path / "stopper.py")], "trackers": {"stopper": {"at": 2}}}
    stopped = ran(data, tmp_path, {"interval": 2, "samples": TWO}, **stopper)
    assert (stopped.step, sorted(samples(stopped))) == (2, ["step_000000_1.wav", "step_000000_2.wav"])
    outcome = run(load_run(tmp_path / "run.toml"))
    assert samples(outcome) == samples(drawn)
    assert losses(outcome) == losses(drawn)
    told = [[(line["step"], sorted(line)) for line in lines(each) if "loss" not in line] for each in (outcome, drawn)]
    assert told[0] == told[1]


# ---------------------------------------------------------------- what


def test_zero_is_a_seed_and_a_sample_without_one_has_that_of_the_table(data: Path, tmp_path: Path) -> None:
    asked = [{"prompt": "a tone", "seed": 0}, {"prompt": "a tone"}, {"prompt": "a tone", "seed": 42}]
    found = samples(ran(data, tmp_path, {"samples": asked}, optimization={"steps": 1}, **UNMEASURED))
    zero, default, written = (found[f"step_000000_{index}.wav"] for index in (1, 2, 3))
    assert default == written != zero


def test_a_prompt_that_is_there_again_has_a_number() -> None:
    assert named(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]


# ---------------------------------------------------------------- without disturbing training


def test_drawing_changes_neither_the_draws_of_training_nor_what_is_learned(data: Path, tmp_path: Path, drawn: Outcome) -> None:
    dropout = {"lora": {"dropout": 0.5}, **UNMEASURED}
    without = ran(data, tmp_path / "without", {"interval": 0, "skip_initial_validation": True}, **dropout)
    beside = ran(data, tmp_path / "with", {"interval": 1, "samples": TWO}, **dropout)
    assert len(samples(beside)) == 10
    assert losses(beside) == losses(without) != losses(drawn)
    assert filecmp.cmp(beside.weights, without.weights, shallow=False)


def test_the_model_draws_without_dropout(data: Path, tmp_path: Path, drawn: Outcome) -> None:
    begun = {"model": {"load_checkpoint": str(drawn.weights)}, "optimization": {"steps": 1}, **UNMEASURED}
    found = [
        samples(ran(data, tmp_path / str(dropout), {"samples": TWO}, lora={"dropout": dropout}, **begun))["step_000000_1.wav"]
        for dropout in (0.0, 0.5)
    ]
    assert found[0] == found[1] != samples(drawn)["step_000000_1.wav"]


def test_no_codec_and_no_text_encoder_is_alive_while_training(data: Path, tmp_path: Path) -> None:
    (tmp_path / "counter.py").write_text(COUNTER)
    plugin = {"plugins": [str(tmp_path / "counter.py")], "trackers": {"counter": {"path": str(tmp_path / "alive.txt")}}, **UNMEASURED}
    sound_file(tmp_path / "tone.wav")
    asked = [{"prompt": "a tone", "conditions": [{"type": "prefix", "audio": "tone.wav", "duration": 0.1}]}]
    path = write_run(tmp_path, tables(data, tmp_path / "out", validation={**SOUND, "interval": 1, "samples": asked}, **plugin))
    # In a process of its own, where nothing is alive but what the run itself has.
    subprocess.run([sys.executable, "-m", "ltxcore", "run", str(path)], check=True, capture_output=True)
    assert (tmp_path / "alive.txt").read_text().splitlines() == ["1", "2", "3", "4"]


def test_samples_are_dealt_among_processes_that_take_the_same_passes() -> None:
    sound = encoded(trained=frozenset({"audio"}))
    picture = encoded(trained=frozenset({"video"}))
    asked: list[Encoded] = [sound, picture, sound, sound]
    assert list(dealt(asked, 0, 1)) == [(0, True), (2, True), (3, True), (1, True)]
    assert list(dealt(asked, 0, 2)) == [(0, True), (3, True), (1, True)]
    assert list(dealt(asked, 1, 2)) == [(2, True), (3, False), (1, False)]


# ---------------------------------------------------------------- with a stream beside those of the run


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of the example."""
    folder = tmp_path_factory.mktemp("clips")
    rows = (MEDIA / "clips.jsonl").read_text().splitlines()[:6]
    for media in (value for row in rows for key, value in json.loads(row).items() if key != "caption"):
        (folder / media).parent.mkdir(exist_ok=True)
        shutil.copy(MEDIA / media, folder / media)
    (folder / "clips.jsonl").write_text("\n".join(rows))
    return folder / "clips.jsonl"


def of_example(name: str, clips: Path, folder: Path, *settings: str, **validation: Any) -> Outcome:
    """An example on six clips, for two steps; `validation` is written into it."""
    table = write_run(folder, {"validation": {"inference_steps": 2, **PLAIN, **validation}}, f"{name}_validation.toml").read_text()
    run_file = folder / f"{name}.toml"
    run_file.write_text((MEDIA.parent / f"{name}.toml").read_text() + "\n" + table)
    small = ["optimization.steps=2", "optimization.batch_size=2", "data.held_out=0", f"data.dataset={clips}"]
    return run(load_run(run_file, [f"output_dir={folder / name}", *small, *settings]))


def test_v2v_ic_with_sound_writes_sound_and_trains_the_same(clips: Path, tmp_path: Path) -> None:
    reference = str(MEDIA / "references" / "train_0000.mp4")
    asked = {
        "video_dims": [64, 64, 17],
        "frame_rate": 16.0,
        "samples": [{"prompt": "a red disc", "conditions": [{"type": "reference", "video": reference, "include_in_output": True}]}],
    }
    found = {}
    for name, table in (("without", {}), ("with", {**asked, "generate_audio": True})):
        (tmp_path / name).mkdir()
        found[name] = of_example("v2v_ic", clips, tmp_path / name, **table)
    clip = found["with"].generations[0].path
    info = probe(clip)
    assert (clip.suffix, info.width, info.height, info.frames, info.channels) == (".mp4", 128, 64, 17, 1)
    assert probe(found["without"].generations[0].path).channels is None
    assert losses(found["with"]) == losses(found["without"])
    assert filecmp.cmp(found["with"].weights, found["without"].weights, shallow=False)


def test_full_mode_leaves_a_stream_alone_that_only_draws(clips: Path, tmp_path: Path) -> None:
    full = ["model.training_mode=full", "checkpoints.precision=float32", "optimization.weight_decay=0.5"]
    asked = {"video_dims": [64, 64, 9], "frame_rate": 16.0, "generate_audio": True, "samples": [{"prompt": "a red disc"}]}
    outcome = of_example("v2v_ic", clips, tmp_path, *full, **asked)
    assert probe(outcome.generations[0].path).channels == 1
    before, after = load_file(TINY_BASE), load_file(outcome.weights)
    changed = {name for name in before if not before[name].float().equal(after[name])}
    assert changed
    assert not [name for name in changed if "audio" in name or "av_" in name]


def test_the_samples_in_the_guide_are_those_of_a_run_file(tmp_path: Path) -> None:
    page = (MEDIA.parents[1] / "docs" / "how-to" / "watch-a-run.md").read_text()
    (block,) = (block for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[validation]" in block)
    run_file = tmp_path / "run.toml"
    run_file.write_text((MEDIA.parent / "i2v.toml").read_text().replace('"media/', f'"{MEDIA}/') + block.replace('"media/', f'"{MEDIA}/'))
    loaded = load_run(run_file, [f"output_dir={tmp_path / 'out'}"])
    check_run(loaded)
    assert [sample.seed for sample in loaded.config.validation.samples] == [None, 0]


# ---------------------------------------------------------------- refused before training


def test_what_is_wrong_with_samples_is_found_before_anything_is_read(data: Path, tmp_path: Path) -> None:
    image_file(tmp_path / "image.png")
    asked = [
        {"prompt": "a tone", "conditions": [{"type": "first_frame", "image_or_video": "image.png"}]},
    ]
    with pytest.raises(ConfigError) as error:
        check_run(loaded_run(tmp_path, validation={"samples": asked}, data={"preprocessed_data_root": str(data)}))
    assert message(error.value, tmp_path) == (
        'TMP/run.toml:31: validation.samples[0].conditions[0]: the condition "first_frame" works on video, which this sample lacks\n'
        "    Set generate_video = true, or remove the condition."
    )


def test_a_codec_that_is_not_there_is_missed_before_training(tmp_path: Path) -> None:
    bare = Codecs(str(write_golden("B", tmp_path)), device="cpu")
    with pytest.raises(ConfigError) as error:
        Validation.of([planned(trained=frozenset({"audio"}))], bare)
    assert message(error.value, tmp_path) == (
        "TMP/B.safetensors: this checkpoint holds no audio VAE, because the model consists of several files\n"
        "    Set audio_vae_path under [model] to the file of the audio VAE."
    )


def test_room_is_made_for_what_is_drawn_between_steps(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, seen, generate = [False], [], Validation.generate

    @contextmanager
    def watched(optimizer: Optimizer) -> Iterator[None]:
        inside[0] = True
        with state_in_host_memory(optimizer):
            yield
        inside[0] = False

    def drawn(self: Validation, engine: Engine, backbone: LTXBackbone, folder: Path, step: int, spared: Spared) -> list[Generation]:
        seen.append((step, inside[0]))
        return generate(self, engine, backbone, folder, step, spared)

    monkeypatch.setattr("ltxcore.engines.single.state_in_host_memory", watched)
    monkeypatch.setattr(Validation, "generate", drawn)
    asked = {"offload_optimizer_during_validation": True}
    outcome = ran(data, tmp_path, {"samples": TWO[:1], "interval": 2}, acceleration=asked, **UNMEASURED)
    assert outcome.finished
    assert seen == [(0, False), (2, True), (4, True)]  # before the first step there is no state
