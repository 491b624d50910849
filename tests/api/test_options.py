"""Options of commands that encode or decode reach them as one object for codecs, and one for how data are encoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from ltxcore.api.dataset import PreprocessingTable
from ltxcore.api.models import Codecs
from ltxcore.api.options import codec_options, option_of, preprocessing_options
from ltxcore.config.tables import keys_of
from ltxcore.errors import ConfigError


def given(arguments: list[str], decorate: Any) -> Any:
    """What a command with these options gets."""
    got: list[Any] = []

    @click.command()
    @decorate
    def command(**named: Any) -> None:
        got.append(named)

    result = CliRunner().invoke(command, arguments)
    if result.exception is not None:
        raise result.exception
    return got[0]


WITH = codec_options(model="The model.", device="the GPU", tiling="Encode")


def test_a_command_gets_all_that_is_said_of_codecs_as_one_object() -> None:
    said = ["--model-path", "m", "--text-encoder-path", "t", "--video-vae-path", "v", "--audio-vae-path", "a", "--device", "cpu"]
    assert given([*said, "--vae-tiling", "--load-text-encoder-in-8bit", "--offload-text-encoder"], WITH) == {
        "codecs": Codecs("m", Path("t"), Path("v"), Path("a"), "cpu", tiling=True, text_in_8bit=True, text_offload=True)
    }
    assert given(["--model-path", "m", "--device", "cpu"], WITH) == {"codecs": Codecs("m", device="cpu")}


def test_without_a_model_there_are_no_codecs_and_one_of_them_alone_is_refused() -> None:
    assert given([], WITH) == {"codecs": None}
    with pytest.raises(ConfigError) as error:
        given(["--audio-vae-path", "a"], WITH)
    assert str(error.value) == "the path of a VAE or text encoder needs a model\n    Name the model too: --model-path MODEL."


def test_a_command_that_computes_nothing_has_no_option_that_says_how() -> None:
    only_looks = codec_options(model="The model.")
    assert given(["--model-path", "m"], only_looks) == {"codecs": Codecs("m", device="cpu")}
    for option in ("--device=cpu", "--vae-tiling", "--load-text-encoder-in-8bit", "--offload-text-encoder"):
        with pytest.raises(SystemExit):
            given(["--model-path", "m", option], only_looks)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match='"cuda:x" is not a device'):
        given(["--model-path", "m", "--device", "cuda:x"], WITH)


def test_a_command_that_knows_its_model_otherwise_names_it_itself() -> None:
    own = given(["--device", "cpu", "--video-vae-path", "v"], codec_options(device="the GPU", tiling="Decode"))["codecs"]
    assert own == Codecs("", video_vae=Path("v"), device="cpu")


def test_every_key_of_preprocessing_is_an_option_with_its_default() -> None:
    assert given([], preprocessing_options) == {"options": PreprocessingTable()}
    said = ["--resolution-buckets", "64x64x17", "--audio-durations", "2;4.5", "--skip-audio", "--on-error", "skip", "--batch-size", "3"]
    assert given(said, preprocessing_options)["options"] == PreprocessingTable(
        resolution_buckets="64x64x17", audio_durations=[2.0, 4.5], skip_audio=True, on_error="skip", batch_size=3
    )
    names = {option_of(key.name) for key in keys_of(PreprocessingTable)}
    text = CliRunner().invoke(click.command()(preprocessing_options(lambda options: None)), ["--help"]).output
    assert names <= set(text.split())


def test_a_key_of_a_column_is_named_as_the_option_takes_it() -> None:
    assert option_of("preprocessing.columns.video_mask.column") == "--columns video_mask.column"
    with pytest.raises(ConfigError, match=r"^--columns video_mask\.unit: there is no such key"):
        given(["--columns", "video_mask.unit=2"], preprocessing_options)


def test_a_source_and_its_keys_are_options_too() -> None:
    said = ["--source", "folder", "--source-params", "prefer=image", "--source-params", 'caption_from="folder"']
    options = given(said, preprocessing_options)["options"]
    assert (options.reader.prefer, options.reader.caption_from) == ("image", "folder")
    done = CliRunner().invoke(click.command()(preprocessing_options(lambda options: None)), ["--source-params", "prefer"])
    assert (done.exit_code, "has no value; write KEY=VALUE." in done.output) == (2, True)
