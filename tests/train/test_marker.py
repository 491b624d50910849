"""A model that takes the first-frame marker: given it in all that a run does, and in generation as in training; runs that began without go on without."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console
from safetensors import safe_open

from helpers.heard import heard
from helpers.marker_made import VIDEO, clip_loaded, clip_run, clip_set, model_with_marker
from helpers.training_runs import ONLY_TINY, STOPPER, message
from ltxcore.cli.main import main
from ltxcore.config.load import load_run
from ltxcore.errors import ConfigError
from ltxcore.inspection.first_steps import inspect
from ltxcore.models.backbone import LTXBackbone
from ltxcore.protocols import ModelInput
from ltxcore.runs.checks import check_run
from ltxcore.runs.run_plan import check_outline
from ltxcore.train.outcome import Outcome
from ltxcore.train.start_run import run

SIZE = {"video_dims": [64, 64, 17], "frame_rate": 16.0, "inference_steps": 2, "video_stg_scale": 0.0}
PROMPT = {"samples": [{"prompt": "a red disc"}], **SIZE}
NOTE = "continues without the first-frame marker, as it began; a new run would use the marker (training_strategy.video.mark_first_frame = false)"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set and a model."""
    folder = tmp_path_factory.mktemp("made")
    clip_set(folder / "data")
    model_with_marker(folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def loras(made: Path) -> dict[bool, Outcome]:
    """Runs from beginning to end, with and without the marker."""
    key = "training_strategy.video.mark_first_frame"
    return {
        said: run(clip_loaded(made / "data", str(made / "model.safetensors"), made / str(said) / "out", f"{key}={str(said).lower()}"))
        for said in (True, False)
    }


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[ModelInput]:
    """What a model is asked of pictures, whoever asks; it answers as ever."""
    found: list[ModelInput] = []
    forward = LTXBackbone.forward

    def watched(self: LTXBackbone, video: ModelInput | None, audio: ModelInput | None, **options: Any) -> dict[str, torch.Tensor]:
        if video is not None:
            found.append(video)
        return forward(self, video, audio, **options)

    monkeypatch.setattr(LTXBackbone, "forward", watched)
    return found


def said_by(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


@pytest.mark.parametrize("validation", [PROMPT, {"inference_steps": 2}], ids=["prompts", "held-out clips"])
def test_all_that_a_run_asks_of_the_model_has_the_marker(
    made: Path, tmp_path: Path, asked: list[ModelInput], validation: dict[str, Any]
) -> None:
    """Training, validation loss, swapped contexts, and what is generated."""
    run(clip_loaded(made / "data", str(made / "model.safetensors"), tmp_path / "out", validation=validation))
    assert len(asked) > 20
    for given in asked:
        assert given.marked is not None
        assert given.marked.shape == given.tokens.shape[:2] == (len(given.tokens), 12)
        assert given.marked[:, :4].all()
        assert not given.marked[:, 4:].any()


@pytest.mark.parametrize("validation", [PROMPT, {"inference_steps": 2}], ids=["prompts", "held-out clips"])
def test_a_run_without_it_never_gives_the_marker(made: Path, tmp_path: Path, asked: list[ModelInput], validation: dict[str, Any]) -> None:
    key = "training_strategy.video.mark_first_frame=false"
    run(clip_loaded(made / "data", str(made / "model.safetensors"), tmp_path / "out", key, validation=validation))
    assert len(asked) > 20
    assert all(given.marked is None for given in asked)


def test_the_run_file_and_the_lora_say_whether_the_marker_was_given_and_the_results_differ(loras: dict[bool, Outcome]) -> None:
    for said, outcome in loras.items():
        assert f"mark_first_frame = {str(said).lower()}\n" in (outcome.output_dir / "run.toml").read_text()
        assert said_by(outcome.weights)["mark_first_frame"] == str(said).lower()
    assert loras[True].before != loras[False].before
    assert loras[True].weights.read_bytes() != loras[False].weights.read_bytes()


def test_a_model_without_the_marker_is_trained_the_same_whatever_the_key_says(made: Path, tmp_path: Path) -> None:
    key = "training_strategy.video.mark_first_frame"
    one, other = (run(clip_loaded(made / "data", "tiny-untrained", tmp_path / said / "out", f"{key}={said}")) for said in ("true", "false"))
    assert one.weights.read_bytes() == other.weights.read_bytes()
    assert (one.before, one.after) == (other.before, other.after)
    assert "mark_first_frame" not in said_by(one.weights)


@pytest.mark.parametrize("said", [True, False])
def test_ltx_sample_generates_as_the_lora_was_trained(
    made: Path, loras: dict[bool, Outcome], tmp_path: Path, asked: list[ModelInput], said: bool
) -> None:
    words = ["sample", "a red disc", "--model", str(made / "model.safetensors"), "--lora", str(loras[said].weights), "--no-generate-audio"]
    words += ["--video-dims", "64x64x17", "--frame-rate", "16", "--inference-steps", "2", "--video-stg-scale", "0", "--device", "cpu"]
    done = CliRunner().invoke(main, [*words, "-o", str(tmp_path / "a.mp4")], catch_exceptions=False)
    assert done.exit_code == 0
    assert asked
    assert {given.marked is not None for given in asked} == {said}
    note = f"The first frame is not marked, since {loras[said].weights} was trained without the marker; --mark-first-frame marks it.\n"
    assert done.stderr == ("" if said else note) + ONLY_TINY
    asked.clear()
    other = "--no-mark-first-frame" if said else "--mark-first-frame"
    done = CliRunner().invoke(main, [*words, other, "-o", str(tmp_path / "b.mp4")], catch_exceptions=False)
    assert {given.marked is not None for given in asked} == {not said}
    ways = ("with", "without") if said else ("without", "with")
    assert done.stderr == f"{loras[said].weights} was trained {ways[0]} the first-frame marker, but is used {ways[1]} it.\n{ONLY_TINY}"


def test_inspect_shows_what_is_marked(made: Path, tmp_path: Path) -> None:
    console = Console(file=StringIO(), width=80)
    loaded = clip_loaded(made / "data", str(made / "model.safetensors"), tmp_path / "out", validation={"inference_steps": 2})
    inspect(loaded, console, dump=tmp_path / "dump.safetensors", png=tmp_path / "seen.png")
    rows = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert ["marked", "4"] in rows
    with safe_open(tmp_path / "dump.safetensors", "pt") as file:
        marked = file.get_tensor("step_1/video/marked")
    assert marked.dtype == torch.bool
    assert marked.tolist() == [[True] * 4 + [False] * 8] * 2


# ---------------------------------------------------------------- a run that began before there was the marker


@pytest.fixture
def older(made: Path, tmp_path: Path) -> Path:
    """The run file of a run that was stopped after its first step, and whose saved file has no key of the marker, as ltx 0.1.0 wrote it."""
    (tmp_path / "stopper.py").write_text(STOPPER)
    stopper = {"plugins": [str(tmp_path / "stopper.py")], "trackers": {"stopper": {"at": 1}}}
    run_file = clip_run(made / "data", str(made / "model.safetensors"), tmp_path / "out", **stopper)
    assert not run(load_run(run_file, ["training_strategy.video.mark_first_frame=false"])).finished
    saved = tmp_path / "out" / "run.toml"
    text = saved.read_text()
    assert text.count("mark_first_frame = false\n") == 1
    saved.write_text(text.replace("mark_first_frame = false\n", ""))
    return run_file


@pytest.mark.parametrize("which", ["the run file", "the saved run file"])
def test_a_run_that_began_without_the_marker_goes_on_without_it_and_says_so(
    older: Path, loras: dict[bool, Outcome], tmp_path: Path, which: str
) -> None:
    with heard() as told:
        outcome = run(load_run(older if which == "the run file" else tmp_path / "out" / "run.toml"))
    assert outcome.finished
    said = told.getvalue()
    assert f"this unfinished run {NOTE}\n" in said
    assert "resuming after step 1" in said
    assert "mark_first_frame = false\n" in (tmp_path / "out" / "run.toml").read_text()
    assert outcome.weights is not None
    assert outcome.weights.read_bytes() == loras[False].weights.read_bytes()


def test_check_launch_and_inspect_agree_with_the_run(older: Path, tmp_path: Path) -> None:
    found = check_run(load_run(older))
    assert found.outline.resumes
    assert found.outline.notes == (NOTE,)
    check_outline(load_run(older), 1)
    done = CliRunner().invoke(main, ["check", str(older)], catch_exceptions=False)
    assert f"The unfinished run in {tmp_path}/out {NOTE}.\nThe unfinished run in {tmp_path}/out resumes after step 1.\n" in done.output
    with heard() as told:
        (seen,) = inspect(load_run(older))
    assert seen.inputs["video"].marked is None
    assert f"the run in {tmp_path}/out {NOTE}\n" in told.getvalue()


def test_a_run_file_that_asks_for_the_marker_is_another_one(older: Path, tmp_path: Path) -> None:
    for check in (check_run, lambda loaded: check_outline(loaded, 1), lambda loaded: run(loaded)):
        with pytest.raises(ConfigError) as error:
            check(load_run(older, ["training_strategy.video.mark_first_frame=true"]))
        assert message(error.value, tmp_path).splitlines()[:3] == [
            "TMP/run.toml:1: output_dir: TMP/out holds an unfinished run with another run file:",
            "    -mark_first_frame = false",
            "    +mark_first_frame = true",
        ]


def test_a_run_that_starts_over_begins_with_the_marker(older: Path, tmp_path: Path) -> None:
    with heard() as told:
        outcome = run(load_run(older, ["checkpoints.no_resume=true", "trackers.stopper.at=99"]))
    assert NOTE not in told.getvalue()
    assert outcome.weights is not None
    assert said_by(outcome.weights)["mark_first_frame"] == "true"


def test_an_older_run_of_a_model_without_the_marker_goes_on_and_nothing_is_said(made: Path, tmp_path: Path) -> None:
    (tmp_path / "stopper.py").write_text(STOPPER)
    stopper = {"plugins": [str(tmp_path / "stopper.py")], "trackers": {"stopper": {"at": 1}}}
    run_file = clip_run(made / "data", "tiny-untrained", tmp_path / "out", **stopper)
    run(load_run(run_file))
    saved = tmp_path / "out" / "run.toml"
    saved.write_text(saved.read_text().replace("mark_first_frame = true\n", ""))
    with heard() as told:
        assert run(load_run(run_file)).finished
    assert "resuming after step 1" in told.getvalue()
    assert "marker" not in told.getvalue()
    assert "mark_first_frame = true\n" in saved.read_text()
    assert VIDEO.keys() == {"is_generated", "latents_dir", "conditions"}, "the run file does not set the key"
