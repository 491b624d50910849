"""What is read of an output folder, finished or not, and what is not believed of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from helpers.made_run import STEPS, made_run, media, metrics
from ltxcore.errors import ConfigError
from ltxcore.runs.read_run import Series, read_run, sample_command, series_of


def test_a_run_is_read_without_loading_anything(tmp_path: Path) -> None:
    lines = media(tmp_path / "run")
    record = read_run(made_run(tmp_path / "run", lines=[*metrics(), *lines]))
    assert (record.name, record.last_step, record.total_steps, record.seconds) == ("run", STEPS, STEPS, STEPS * 0.25)
    assert set(record.modalities) == {"video", "audio"}
    assert record.get("lora.rank") == 4
    assert record.get("lora.nothing", "none") == "none"
    assert record.adapters == "LoRA of rank 4"
    assert [(sample.step, sample.name, sample.path.name, sample.original.name) for sample in record.drawn] == [
        (0, "a red disc", "step_000000_1.mp4", "original_1.mp4"),
        (0, "a red disc, sound", "step_000000_1s.wav", "original_1s.wav"),
        (STEPS, "a red disc", f"step_{STEPS:06d}_1.mp4", "original_1.mp4"),
        (STEPS, "a red disc, sound", f"step_{STEPS:06d}_1s.wav", "original_1s.wav"),
    ]
    assert record.weights.parameters == 2 * 32
    assert record.weights.metadata["trigger"] == "ltxworld"


def test_the_adapters_of_a_run_are_named_by_their_type_and_ranks(tmp_path: Path) -> None:
    lora = {"type": "lokr", "groups": [{"modules": ["to_k"], "rank": 2}]}
    assert read_run(made_run(tmp_path / "run", lora=lora)).adapters == "LoKr of rank 2 to 4"


@pytest.mark.parametrize(("sigmas", "option"), [("distilled", "--sigmas distilled"), ([1.0, 0.5, 0.0], "--sigmas 1.0,0.5,0.0"), (None, "")])
def test_samples_are_generated_with_the_noise_levels_of_the_run(sigmas: object, option: str, tmp_path: Path) -> None:
    record = read_run(made_run(tmp_path / "run", validation={"sigmas": sigmas} if sigmas else {}))
    assert option in sample_command(record, record.weights)
    assert ("--sigmas" in sample_command(record, record.weights)) == bool(option)


def test_a_run_that_is_not_finished_has_no_weights_and_its_last_line_may_be_cut_off(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", status="running")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 201, "lo')
    record = read_run(folder)
    assert record.weights is None
    assert record.last_step == STEPS


def test_files_outside_the_folder_do_not_come_into_a_page(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    folder = tmp_path / "run"
    (folder / "samples").mkdir(parents=True)
    (folder / "samples" / "link.png").symlink_to(tmp_path / "secret.png")
    paths = ("../secret.png", str(tmp_path / "secret.png"), "samples/link.png", "samples/gone.png")
    made_run(folder, lines=[{"step": 1, "sample": "a", "path": path} for path in paths])
    assert read_run(folder).drawn == ()


def test_a_folder_that_is_not_of_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read_run(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: this is not the output folder of a run\n    Name the output_dir of a run that `ltx run` started."
    )


def test_weights_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run")
    (folder / "lora.safetensors").write_bytes(b"cut off")
    assert read_run(folder).weights is None
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"


def test_a_run_file_whose_tables_are_something_else_has_no_modalities(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run")
    (folder / "run.toml").write_text('training_strategy = [1]\noptimization = { steps = "many" }\n')
    record = read_run(folder)
    assert (record.modalities, record.total_steps) == ({}, 0)


def test_numbers_are_gathered_by_name_and_a_step_that_was_done_again_counts_as_it_was_last() -> None:
    lines = [
        {"step": 2, "loss": 5.0},
        {"step": 1, "loss": 4},
        {"step": 2, "loss": 3.0, "rate": 0.5},
        {"step": 3, "loss": math.nan, "sample": "a"},
    ]
    assert series_of([*lines, {"step": 4, "done": True}]) == {"loss": Series((1, 2), (4.0, 3.0)), "rate": Series((2,), (0.5,))}


def test_a_part_begins_after_its_first_step() -> None:
    assert Series((1, 2, 3, 4), (1.0, 2.0, 3.0, 4.0)).between(2, 4) == Series((3, 4), (3.0, 4.0))


def test_what_is_no_finite_number_is_left_out() -> None:
    odd = [10**400, -(10**400), math.inf, math.nan, True, "1", None, [1]]
    assert series_of([{"step": step, "loss": value} for step, value in enumerate(odd)] + [{"step": 9, "loss": 2}]) == {
        "loss": Series((9,), (2.0,))
    }
