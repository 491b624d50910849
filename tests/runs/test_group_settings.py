"""A run whose modules have ranks and learning rates of their own: what is refused, what is told, and what is saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from helpers.training_runs import message, sound_set, tables, write_run
from ltxcore.cli.main import main
from ltxcore.config.load import load_run
from ltxcore.errors import LtxError
from ltxcore.models.lora_file import read_lora
from ltxcore.runs.checks import check_run
from ltxcore.safetensors_files import read_header
from ltxcore.train.start_run import run

WIDE = {"name": "wide", "modules": ["to_v"], "blocks": "0-1", "rank": 4, "learning_rate": 1e-4}
LATE = {"blocks": "2-", "weight_decay": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_set(tmp_path_factory.mktemp("groups") / "data", count=8)


def told(data: Path, tmp_path: Path, **changed: Any) -> str:
    """What is wrong with a run, without the lines of its file."""
    path = write_run(tmp_path, tables(data, tmp_path / "out", **changed))
    with pytest.raises(LtxError) as error:
        check_run(load_run(path))
    return "\n".join(
        line.partition(": ")[2] if line.startswith("TMP/run.toml:") else line for line in message(error.value, tmp_path).splitlines()
    )


FULL = {"model": {"training_mode": "full"}}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"lora": {"groups": [{**WIDE, "modules": ["norm"]}]}},
            'lora.groups[0].modules[0]: "norm" names nothing that is trained\n    These are trained: audio_attn1.to_q, audio_attn1.to_v.',
        ),
        (
            {"optimization": {"groups": [{**LATE, "blocks": "4-"}]}},
            "optimization.groups[0].blocks: the model has 4 blocks, 0 to 3\n    Name others.",
        ),
        (
            {**FULL, "optimization": {"groups": [{"modules": ["audio_scale_shift_tabel"], "weight_decay": 0.0}]}},
            'optimization.groups[0].modules[0]: "audio_scale_shift_tabel" names nothing that is trained\n    Did you mean "audio_scale_shift_table"?',
        ),
        (
            {**FULL, "lora": {"groups": [WIDE]}, "optimization": {"lora_plus_ratio": 16}},
            "lora.groups: apply to a LoRA, but full fine-tuning trains all weights\n"
            "    Remove them; [[optimization.groups]] sets learning rates of single modules.\n"
            "optimization.lora_plus_ratio: is for the B matrices of a LoRA, but full fine-tuning has none\n"
            '    Remove the key, or set model.training_mode = "lora".',
        ),
        (
            {"lora": {"groups": [WIDE]}, "optimization": {"groups": [LATE]}},
            "optimization.groups: cannot set learning rates or weight decays if lora.groups does so too\n"
            "    Move all of these settings into one of the two lists.",
        ),
        (
            {"lora": {"type": "lokr"}, "optimization": {"lora_plus_ratio": 16}},
            'optimization.lora_plus_ratio: the adapter "lokr" has no B matrices\n    Remove the key.',
        ),
        (
            {"optimization": {"optimizer_type": "torch.optim:Rprop", "groups": [{**LATE, "weight_decay": 0.1}]}},
            'optimization.groups[0].weight_decay: the optimizer "torch.optim:Rprop" has no weight decay\n    Remove the key.',
        ),
        (
            {"optimization": {"optimizer_type": "prodigy", "groups": [{**LATE, "learning_rate": 0.5}], "lora_plus_ratio": 2}},
            'optimization.groups[0].learning_rate: the optimizer "prodigy" has one step size for all weights\n    Remove the key.\n'
            'optimization.lora_plus_ratio: the optimizer "prodigy" has one step size for all weights\n    Remove the key.',
        ),
    ],
)
def test_groups_that_the_run_cannot_have_are_refused_at_their_key(data: Path, tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    assert told(data, tmp_path, **changed) == said


@pytest.mark.parametrize("table", [{"modules": ["*_table"]}, {"modality": "audio", "modules": ["bias"]}, {"blocks": "1-2"}])
def test_groups_of_full_fine_tuning_name_parameters_too(data: Path, tmp_path: Path, table: dict[str, Any]) -> None:
    path = write_run(tmp_path, tables(data, tmp_path / "out", **FULL, optimization={"groups": [{**table, "learning_rate": 1e-5}]}))
    check_run(load_run(path))


def test_a_run_of_groups_is_told_trained_and_saved_with_them(data: Path, tmp_path: Path) -> None:
    changed = {
        "lora": {"groups": [WIDE, {**LATE, "rank": 1, "alpha": 2}]},
        "optimization": {"lora_plus_ratio": 8, "steps": 1, "batch_size": 1},
        "validation": {"inference_steps": 2, "skip_initial_validation": True},
        "data": {"held_out": 0},
    }
    path = write_run(tmp_path, tables(data, tmp_path / "out", **changed))
    checked = CliRunner().invoke(main, ["check", str(path)])
    assert "  mode        LoRA of rank 1 to 4 on tiny-untrained\n" in checked.stdout
    groups = ["wide: rank 4, learning rate 0.0001 for to_v, blocks 0-1", "group_2: rank 1, alpha 2, weight decay 0 for blocks 2-"]
    groups += ["lora_B: 8 times the learning rate for the B matrices (LoRA+)"]
    assert [line[14:] for line in checked.stdout.splitlines() if line.startswith("  group ")] == groups
    done = run(load_run(path))
    assert done.weights is not None
    first = next(line for line in map(json.loads, done.metrics.read_text().splitlines()) if "loss" in line)
    rates = {name.removeprefix("learning_rate"): value for name, value in first.items() if name.startswith("learning_rate")}
    assert rates == pytest.approx(
        {"": 1e-3, "/lora_B": 8e-3, "/wide": 1e-4, "/wide/lora_B": 8e-4, "/group_2": 1e-3, "/group_2/lora_B": 8e-3}
    )
    found = read_lora(done.weights, "")
    ranks = {name: found.shape(name).rank for name in found.modules}
    expected = {
        f"transformer_blocks.{n}.audio_attn1.{p}": 1 if n > 1 else 4 if p == "to_v" else 2 for n in range(4) for p in ("to_q", "to_v")
    }
    assert ranks == expected
    said = read_header(done.weights).metadata
    assert (said["rank"], said["alpha"]) == ("4", "4")
    assert [each["rank"] for each in json.loads(said["lora_groups"])] == [4, 1]
