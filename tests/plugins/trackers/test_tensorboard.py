"""TensorBoard, read back with its own reader: numbers, pictures, clips, sounds, and runs that go on."""

from __future__ import annotations

import io
import sys
import wave
from pathlib import Path

import pytest
import torch

from ltxcore.media.probe import write_clip, write_sound
from ltxcore.protocols import Clip, Sound
from ltxcore.registry import load
from ltxplugins.trackers.tensorboard import WIDEST, TensorBoard

pytest.importorskip("tensorboard", reason="tensorboard is not installed")


def started(folder: Path, first_step: int = 0, **options: object) -> TensorBoard:
    tracker = TensorBoard(**options)
    tracker.start(folder, {}, 10, first_step)
    return tracker


def read(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "audio": 0})
    found.Reload()
    return found


def clip(path: Path, size: int = 64, *, frames: int = 5, rate: int = 8, sound: bool = False) -> Path:
    pictures = torch.arange(frames).view(-1, 1, 1, 1).expand(frames, size, size, 3) * 40
    heard = Sound(torch.sin(torch.arange(16000) / 20).expand(2, -1).contiguous() * 0.5, 16000) if sound else None
    write_clip(path, Clip(pictures.to(torch.uint8).contiguous(), rate), heard)
    return path


def test_the_tensorboard_tracker_is_registered_under_its_name() -> None:
    assert load().get("tracker", "tensorboard").value is TensorBoard


def test_numbers_are_read_back_at_their_steps(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    tracker.log(1, {"loss": 0.5, "loss/audio": 0.25})
    tracker.log(2, {"loss": 0.125, "grad_norm": float("inf")})
    tracker.finish()
    tracker.finish()
    found = read(tmp_path)
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(1, 0.5), (2, 0.125)]
    assert [(event.step, event.value) for event in found.Scalars("loss/audio")] == [(1, 0.25)]
    assert found.Tags()["scalars"] == ["loss", "loss/audio"]


def test_a_run_that_goes_on_writes_over_the_steps_it_does_again(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    for step in (1, 2, 3):
        tracker.log(step, {"loss": float(step)})
    tracker.finish()
    again = started(tmp_path, first_step=1)
    again.log(2, {"loss": 20.0})
    again.finish()
    assert [(event.step, event.value) for event in read(tmp_path).Scalars("loss")] == [(1, 1.0), (2, 20.0)]


def test_a_clip_is_a_gif_that_moves_at_its_rate_and_its_sound_is_beside_it(tmp_path: Path) -> None:
    from PIL import Image

    tracker = started(tmp_path)
    tracker.sample(3, "a cat", clip(tmp_path / "one.mp4", sound=True))
    tracker.finish()
    found = read(tmp_path)
    assert (found.Tags()["images"], found.Tags()["audio"]) == (["samples/a cat"], ["samples/a cat/sound"])
    shown = Image.open(io.BytesIO(found.Images("samples/a cat")[0].encoded_image_string))
    assert (found.Images("samples/a cat")[0].step, shown.format, shown.n_frames, shown.info["duration"]) == (3, "GIF", 5, 120)
    assert found.Audio("samples/a cat/sound")[0].content_type == "audio/wav"


def test_a_large_clip_is_made_small(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    tracker.sample(1, "big", clip(tmp_path / "one.mp4", 2 * WIDEST, frames=2))
    tracker.finish()
    found = read(tmp_path).Images("samples/big")[0]
    assert (found.width, found.height) == (WIDEST, WIDEST)


def test_a_sound_is_the_sound_with_all_its_channels(tmp_path: Path) -> None:
    samples = torch.sin(torch.arange(8000) / 10).expand(2, -1).contiguous() * torch.tensor([[0.5], [0.25]])
    write_sound(tmp_path / "one.wav", Sound(samples, 16000))
    tracker = started(tmp_path)
    tracker.sample(1, "hum", tmp_path / "one.wav")
    tracker.finish()
    found = read(tmp_path).Audio("samples/hum")[0]
    with wave.open(io.BytesIO(found.encoded_audio_string)) as file:
        heard = torch.frombuffer(bytearray(file.readframes(file.getnframes())), dtype=torch.int16).view(-1, 2).T / 32767
        assert (file.getframerate(), file.getnchannels()) == (16000, 2)
    torch.testing.assert_close(heard, samples, atol=1e-4, rtol=0)


def test_a_picture_is_a_picture(tmp_path: Path) -> None:
    write_clip(tmp_path / "one.png", Clip(torch.full((1, 32, 48, 3), 200, dtype=torch.uint8), 1.0))
    tracker = started(tmp_path)
    tracker.sample(1, "still", tmp_path / "one.png")
    tracker.finish()
    found = read(tmp_path).Images("samples/still")[0]
    assert (found.width, found.height) == (48, 32)


def test_samples_are_left_out_where_the_run_file_says_so(tmp_path: Path) -> None:
    tracker = started(tmp_path, media=False)
    tracker.sample(1, "a cat", tmp_path / "there is no such file.mp4")
    tracker.finish()
    assert read(tmp_path).Tags()["images"] == []


def test_a_sample_that_cannot_be_read_is_told_of_and_the_run_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = started(tmp_path)
    path = tmp_path / "none.mp4"
    tracker.sample(1, "a cat", path)
    tracker.log(1, {"loss": 1.0})
    tracker.finish()
    assert caplog.messages[0].startswith(f"TensorBoard does not show {path}: {path}: ")
    assert len(read(tmp_path).Scalars("loss")) == 1


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TensorBoard().problems() == []
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    what = "the tracker for TensorBoard needs the package tensorboard, which is not installed"
    assert TensorBoard().problems() == [((), what, 'Install it: pip install "ltx[tensorboard]"')]


def test_logging_before_the_start_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match=r"^the tracker has not been started$"):
        TensorBoard().log(1, {})
