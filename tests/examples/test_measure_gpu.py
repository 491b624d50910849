"""The script that measures settings on a GPU, run on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from measure_gpu import Measured, main, settings, table, write_model

from ltxcore.models.base import base_of, released

SMALL = {
    **released("ltx-2.3-22b").transformer,
    "num_layers": 3,
    "num_attention_heads": 4,
    "attention_head_dim": 16,
    "cross_attention_dim": 64,
    "audio_num_attention_heads": 4,
    "audio_attention_head_dim": 8,
    "audio_cross_attention_dim": 32,
    "connector_num_attention_heads": 4,
    "connector_attention_head_dim": 16,
    "connector_num_layers": 1,
    "audio_connector_attention_head_dim": 8,
}


def test_eight_settings_are_measured_each_under_a_name_of_its_own() -> None:
    rows = settings(48)
    assert len({row.said for row in rows}) == len({tuple(row.options) for row in rows}) == 8


def test_a_row_has_what_was_measured_or_why_nothing_was() -> None:
    plan = {"gpu_peak": 11 * 2**30, "seconds": {"step": 0.25}}
    lines = list(table({"plain": (Measured(0.5, 10.0), plan), "nf4": ("bitsandbytes is not installed", plan)}))
    assert list(table({"nf4": (Measured(0.5, 10.0), {})}))[2:] == ["| nf4 | 0.500 |  | 10.00 |  |  |"], "the plan refused it"
    assert lines[2:] == ["| plain | 0.500 | 0.250 | 10.00 | 11.00 | +10% |", "| nf4 | bitsandbytes is not installed | 0.250 | | 11.00 | |"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bucket", "768x512"], "768x512"),
        (["--bucket", "64x64x9;32x32x9"], "--bucket takes one size, not 2."),
        (["--model-path", "/nope.safetensors"], "/nope.safetensors: model_path names neither a file nor a folder"),
        (["--bucket", "64x64x9", "--only", "nf8"], "No setting has nf8 in its name; there are: no gradient checkpointing; "),
    ],
)
def test_a_mistake_on_the_command_line_is_said_without_a_traceback(words: list[str], said: str) -> None:
    found = CliRunner().invoke(main, words)
    assert isinstance(found.exception, SystemExit)
    assert said in found.output


@pytest.mark.slow
def test_a_model_of_random_values_is_measured_on_this_machine(tmp_path: Path) -> None:
    model = tmp_path / "random.safetensors"
    write_model(model, SMALL)
    base_of(str(model)).check_tensors()
    words = ["--model-path", str(model), "--bucket", "64x64x9", "--steps", "3", "--gpu", "4090"]
    words += ["--only", "no gradient checkpointing", "--only", "nf4"]
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 0, found.output
    heading, _, *_, plain, quantized = found.stdout.splitlines()
    assert heading.startswith("random.safetensors, 3 blocks, clips of 64x64x9 with sound, on ")
    _, said, *numbers, _, _ = (cell.strip() for cell in plain.split("|"))
    assert (said, len(numbers), all(float(each) > 0 for each in numbers)) == ("no gradient checkpointing", 4, True)
    assert quantized.startswith("| checkpointing, nf4 | ")
