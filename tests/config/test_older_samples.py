"""`[validation]` in older words is read, and told in newer ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli

from config.run_files import Load, Mistakes
from ltxcore.logs import notice


@pytest.fixture(autouse=True)
def fresh_notices(folder: Path) -> None:
    notice.cache_clear()
    for name in ("a.png", "b.png", "a.mp4", "b.mp4"):
        (folder / name).touch()


def test_prompts_with_images_and_references_are_samples_with_conditions(load: Load, minimal: str, folder: Path) -> None:
    text = (
        "[validation]\nprompts = ['one', 'two']\nimages = ['a.png', 'b.png']\nreference_videos = ['a.mp4', 'b.mp4']\n"
        "reference_downscale_factor = 2\ninclude_reference_in_output = true\nseed = 3\n"
    )
    table = load(minimal + text).config.validation
    assert [sample.prompt for sample in table.samples] == ["one", "two"]
    assert table.seed == 3
    first, reference = table.samples[1].conditions
    assert (first.type, first.medium) == ("first_frame", folder / "b.png")
    assert (reference.type, reference.media) == ("reference", {"reference": folder / "b.mp4"})
    assert (reference.downscale_factor, reference.include_in_output, reference.index) == (2, True, 1)


def test_prompts_alone_are_samples_without_conditions(load: Load, minimal: str) -> None:
    samples = load(minimal + "[validation]\nprompts = ['one']\n").config.validation.samples
    assert [(sample.prompt, sample.conditions) for sample in samples] == [("one", [])]


@pytest.mark.parametrize(
    ("older", "scales"),
    [
        ("guidance_scale = 4", {"video_cfg_scale": 4.0, "audio_cfg_scale": 4.0}),
        ("stg_scale = 0.5", {"video_stg_scale": 0.5, "audio_stg_scale": 0.5}),
        ("stg_scale = 2\nstg_mode = 'stg_v'", {"video_stg_scale": 2.0, "audio_stg_scale": 0.0}),
        ("stg_mode = 'stg_av'", {"video_stg_scale": 1.0, "audio_stg_scale": 1.0}),
    ],
)
def test_one_scale_is_one_for_each_modality(load: Load, minimal: str, older: str, scales: dict[str, float]) -> None:
    table = load(minimal + f"[validation]\n{older}\n").config.validation
    assert {name: getattr(table, name) for name in scales} == scales


def test_what_to_write_instead_is_told_once_and_reads_to_the_same(
    load: Load, minimal: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older = "[validation]\nprompts = ['one', 'two']\nimages = ['a.png', 'b.png']\nguidance_scale = 4.0\n"
    config = load(minimal + older).config
    load(minimal + older)
    (said,) = caplog.messages
    assert said == (
        "In [validation], prompts, images, guidance_scale are deprecated. Write instead:\n\n"
        "[validation]\nvideo_cfg_scale = 4.0\naudio_cfg_scale = 4.0\n\n"
        '[[validation.samples]]\nprompt = "one"\nconditions = [{ type = "first_frame", image_or_video = "a.png" }]\n\n'
        '[[validation.samples]]\nprompt = "two"\nconditions = [{ type = "first_frame", image_or_video = "b.png" }]\n'
    )
    newer = said.partition("\n\n")[2]
    assert tomli.loads(newer)
    assert load(minimal + newer).config == config


def test_a_single_older_word_is_told_in_the_singular(load: Load, minimal: str, caplog: pytest.LogCaptureFixture) -> None:
    load(minimal + "[validation]\nprompts = ['one']\n")
    assert caplog.messages == ['In [validation], prompts is deprecated. Write instead:\n\n[[validation.samples]]\nprompt = "one"\n']


def test_newer_words_alone_are_told_nothing(load: Load, minimal: str, caplog: pytest.LogCaptureFixture) -> None:
    load(minimal + "[[validation.samples]]\nprompt = 'one'\n")
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("older", "message"),
    [
        (
            "prompts = ['one']\nsamples = [{ prompt = 'two' }]\nimages = ['a.png']",
            "run.toml:11: validation.prompts: says what samples say\n    Keep samples.\n"
            "run.toml:13: validation.images: says what samples say\n    Keep samples.",
        ),
        (
            "images = ['a.png']",
            "run.toml:11: validation.images: has no prompts to go with\n    Write [[validation.samples]], each with a prompt.",
        ),
        (
            "prompts = ['one', 'two']\nimages = ['a.png']",
            "run.toml:12: validation.images: has 1 entries for 2 prompts\n    Give each prompt one.",
        ),
        ("prompts = 'one'", 'run.toml:11: validation.prompts: must be a list of texts, not the text "one"'),
        (
            "guidance_scale = 3.0\naudio_cfg_scale = 3.0",
            "run.toml:11: validation.guidance_scale: says what audio_cfg_scale says\n    Keep audio_cfg_scale.",
        ),
        (
            "stg_scale = 1.0\nstg_mode = 'stg_v'\nvideo_stg_scale = 1.0\naudio_stg_scale = 1.0",
            "run.toml:11: validation.stg_scale: says what video_stg_scale and audio_stg_scale say\n    Keep video_stg_scale and audio_stg_scale.\n"
            "run.toml:12: validation.stg_mode: says what video_stg_scale and audio_stg_scale say\n    Keep video_stg_scale and audio_stg_scale.",
        ),
        ("stg_mode = 'stg_x'", 'run.toml:11: validation.stg_mode: there is no mode "stg_x"\n    Choose one: stg_av, stg_v.'),
        (
            "guidance_scale = 0",
            "run.toml:10: validation.video_cfg_scale: must be at least 1, not 0\nrun.toml:10: validation.audio_cfg_scale: must be at least 1, not 0",
        ),
    ],
)
def test_older_words_that_are_wrong_say_how(mistakes: Mistakes, minimal: str, older: str, message: str) -> None:
    assert mistakes(minimal + f"[validation]\n{older}\n").replace("not 0.0", "not 0") == message
