"""text_to_video."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.golden_io import list_cases
from helpers.golden_legacy import assert_agrees, prepared, run_file, setting
from helpers.training_runs import put, sound_set, tables, write_run
from ltxcore.api import notice
from ltxcore.errors import ConfigError
from ltxcore.testing import check_strategy
from ltxplugins.legacy.text_to_video import TextToVideo

CASES = [name for name in list_cases("04_legacy") if name.startswith("t2v.")]

SAID = """The strategy "text_to_video" is deprecated. Write instead:

[training_strategy]
name = "flexible"

[training_strategy.video]
is_generated = true
latents_dir = "latents"
conditions = [{ type = "first_frame", probability = 0.5 }]

[training_strategy.audio]
is_generated = true
latents_dir = "sounds"

[flow_matching]
shared_sigma = true

"""


@pytest.fixture(autouse=True)
def _a_new_run() -> None:
    notice.cache_clear()


@pytest.mark.parametrize("name", CASES)
def test_what_the_model_sees_and_the_loss_agree_with_the_recording(name: str) -> None:
    case, strategy, found = prepared(name)
    assert_agrees(case, strategy, found)


@pytest.mark.parametrize("name", CASES)
def test_text_to_video_reads_the_folders_that_were_recorded(name: str) -> None:
    case, strategy, _ = prepared(name)
    assert {source.folder for source in strategy.sources().values()} == set(case.scalars["data_sources"])


def test_sound_has_the_sigma_of_the_picture_where_the_flexible_strategy_draws_its_own() -> None:
    strategy = TextToVideo(with_audio=True).build(setting())
    assert strategy.shared_sigma


def test_without_sound_there_is_no_audio_and_a_shared_sigma_means_nothing() -> None:
    strategy = TextToVideo().build(setting(shared_sigma=True))
    assert set(strategy.sources()) == {"text", "video"}


def test_an_image_is_never_given_as_in_the_recorded_trainer() -> None:
    check_strategy(TextToVideo(first_frame_conditioning_p=1.0))  # an image that were given whole would have no loss


@pytest.mark.parametrize("table", [TextToVideo(), TextToVideo(with_audio=True), TextToVideo(0.5, True, "sounds")])
def test_text_to_video_keeps_to_the_protocol(table: TextToVideo) -> None:
    check_strategy(table)


def test_text_to_video_says_once_that_it_is_deprecated_and_what_to_write_instead(caplog: pytest.LogCaptureFixture) -> None:
    table = TextToVideo(first_frame_conditioning_p=0.5, with_audio=True, audio_latents_dir="sounds")
    table.build(setting())
    table.build(setting())
    assert caplog.messages == [SAID.removesuffix("\n")]


@pytest.mark.slow
def test_a_run_says_so_once_on_the_console(tmp_path: Path) -> None:
    root = sound_set(tmp_path / "set", 6)
    for number in range(6):
        latents = torch.randn(128, 2, 2, 2, generator=torch.Generator().manual_seed(number))
        put(root, "latents", f"sound{number:02d}", {"latents": latents}, rate=16.0, fingerprint=str(number), origin=f"{number}.mp4")
    table = {"name": "text_to_video", "with_audio": True}
    lora = {"rank": 2, "target_modules": ["to_q"]}
    path = write_run(tmp_path, {**tables(root, tmp_path / "out", optimization={"steps": 2}, lora=lora), "training_strategy": table})
    done = subprocess.run([sys.executable, "-m", "ltxcore", "run", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is deprecated") == 1
    assert TextToVideo(with_audio=True).replacement() in done.stderr


def test_only_the_first_process_says_so(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    TextToVideo().build(setting())
    assert caplog.messages == []


@pytest.mark.parametrize(
    "table", [TextToVideo(), TextToVideo(1, True), TextToVideo(0.25, True, 'a "quoted" folder'), TextToVideo(0.25, True, "\U0001f3b5")]
)
def test_what_it_says_to_write_instead_is_the_same(tmp_path: Path, table: TextToVideo) -> None:
    config = run_file(tmp_path, table.replacement().partition("\n")[2])
    written: Any = config.training_strategy.build(setting(shared_sigma=config.flow_matching.shared_sigma))
    ours: Any = table.build(setting())
    assert written.tables == ours.tables
    assert written.shared_sigma == ours.shared_sigma


def test_a_run_file_names_it_with_its_own_keys(tmp_path: Path) -> None:
    text = (
        '[training_strategy]\nname = "text_to_video"\nfirst_frame_conditioning_p = 0.5\nwith_audio = true\naudio_latents_dir = "sounds"\n'
    )
    assert run_file(tmp_path, text).training_strategy == TextToVideo(0.5, True, "sounds")


def test_a_probability_above_1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run_file(tmp_path, '[training_strategy]\nname = "text_to_video"\nfirst_frame_conditioning_p = 1.5\n')
    assert str(caught.value) == f"{tmp_path}/run.toml:9: training_strategy.first_frame_conditioning_p: must be at most 1, not 1.5"


@pytest.mark.parametrize("said", [True, False])
def test_text_to_video_marks_the_first_frame_as_its_key_says_and_so_does_what_it_says_to_write_instead(tmp_path: Path, said: bool) -> None:
    table = TextToVideo(mark_first_frame=said)
    ours: Any = table.build(setting())
    assert ours.tables["video"].mark_first_frame is said
    assert ("mark_first_frame" in table.replacement()) is not said
    written: Any = run_file(tmp_path, table.replacement().partition("\n")[2]).training_strategy.build(setting())
    assert written.tables == ours.tables
