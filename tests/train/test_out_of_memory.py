"""A run that runs out of memory: said while doing what, and what takes less; gone on with to the last bit; and a sample that costs itself alone."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from helpers.heard import heard
from helpers.refusing import MESSAGE, Refusing, without_sizes
from helpers.sample_made import PLAIN
from helpers.training_runs import loaded_run, message, put_sound, sound_set
from ltxcore.config.load import LoadedRun
from ltxcore.errors import OutOfHostMemory, OutOfMemory
from ltxcore.planner.estimate import Need
from ltxcore.protocols import Entry, Manifest, ModelInput
from ltxcore.runs.passes import in_words, largest
from ltxcore.runs.run_plan import draft, plan
from ltxcore.train.out_of_memory import DECODING, DRAWING, LOADING, MEASURING, TRAINING, Advice
from ltxcore.train.start_run import need_at_start, run

SIZES = "CPU memory ran out (this process took up to SOME; 2.00 GiB more were requested)"
PLAN = "`ltx plan TMP/run.toml` says what the run needs, and what would make it fit."
ANEW = "Nothing was saved yet, so the same command starts over."
ALLOWED = "With a changed run file, add --allow-changes."
SHORTER = "clips of fewer frames or pixels, or shorter sounds (under preprocessing)"
SAVED = {
    "optimization": {"steps": 4, "batch_size": 2, "learning_rate": 1e-3},
    "checkpoints": {"interval": 2},
    "lora": {"rank": 2, "target_modules": ["audio_attn1.to_q"], "dropout": 0.5},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sound_set(tmp_path / "data", count=12)
    return tmp_path


def refused(folder: Path, loaded: LoadedRun, refusing: Refusing) -> str:
    with pytest.raises(OutOfMemory) as caught, refusing:
        run(loaded)
    return without_sizes(message(caught.value, folder))


def steps_of(path: Path) -> list[dict[str, Any]]:
    clock = ("step_seconds", "tokens_per_second", "peak_memory_gib")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in clock} for line in lines]


def test_a_model_that_does_not_fit_is_said_with_what_makes_its_weights_smaller(folder: Path) -> None:
    said = refused(folder, loaded_run(folder), Refusing("load_model"))
    less = 'acceleration.mixed_precision_mode = "bf16"; acceleration.quantization = "int8"'
    assert said == (
        f"{SIZES} while loading the model\n    Each of these needs less memory: {less}. {PLAN} "
        f"{ANEW} With checkpoints.interval, a run saves its state at regular intervals."
    )
    assert not (folder / "out").exists() or not list((folder / "out").glob("*.toml"))


def test_a_step_says_its_samples_and_the_same_command_goes_on_to_the_same_bits(folder: Path) -> None:
    loaded = loaded_run(folder, **SAVED)
    said = refused(folder, loaded, Refusing("_micro_step", "forward", where={"doing": "training step 4"}))
    first, rest = said.split("\n")
    names = plan(draft(loaded).checked()).order.micro_batch(3).names
    assert first == f"{SIZES} while training step 4 on {len(names)} samples ({', '.join(names)}), {8 * len(names)} tokens of audio"
    assert rest.endswith(f"{PLAN} The same command resumes after step 2, the last one saved. {ALLOWED}")
    outcome = run(loaded)
    whole = run(loaded_run(folder, output_dir=str(folder / "whole"), **SAVED))
    assert outcome.weights is not None
    assert whole.weights is not None
    assert filecmp.cmp(outcome.weights, whole.weights, shallow=False)
    assert steps_of(outcome.metrics) == steps_of(whole.metrics)


def test_an_update_says_its_step(folder: Path) -> None:
    said = refused(folder, loaded_run(folder, data={"held_out": 0}), Refusing("_get_total_norm"))
    assert said.startswith(f"{SIZES} while updating the weights in step 1\n")


def test_held_out_samples_that_do_not_fit_end_the_run_in_words(folder: Path) -> None:
    said = refused(folder, loaded_run(folder), Refusing("measure", "forward"))
    less = 'acceleration.offload_optimizer_during_validation = true; acceleration.mixed_precision_mode = "bf16"; acceleration.quantization = "int8"'
    assert said.startswith(
        f"{SIZES} while measuring the validation loss before training\n    Each of these needs less memory: {less}. {PLAN} {ANEW}"
    )
    assert said.endswith(ALLOWED)


# ---- the step that is tried


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor is taken for a device whose memory is bounded, as a GPU's is."""
    monkeypatch.setattr("ltxcore.train.out_of_memory.memory_is_bounded", lambda device: True)


@pytest.mark.usefixtures("bounded")
def test_the_largest_micro_batch_is_tried_before_anything_is_written(folder: Path) -> None:
    for number in (50, 51):
        put_sound(folder / "data", number, steps=12)
    loaded = loaded_run(folder, data={"held_out": 0}, optimization={"batch_size": 2, "steps": 20})
    said = refused(folder, loaded, Refusing("attempt", "backward"))
    assert f"{SIZES} while trying a step before training, the largest of the run, on 2 samples (sound5" in said
    assert ", 24 tokens of audio\n    Each of these needs less memory: " in said
    assert ANEW in said
    assert not list((folder / "out").glob("*.toml"))


def test_a_step_that_is_tried_changes_no_bit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    outcomes = []
    for bounded in (False, True):
        monkeypatch.setattr("ltxcore.train.out_of_memory.memory_is_bounded", lambda device, bounded=bounded: bounded)
        out = str(folder / f"out{bounded}")
        loaded = loaded_run(folder, output_dir=out, **SAVED)
        monkeypatch.setattr("ltxcore.train.out_of_memory.largest", lambda *of: tried.append(largest(*of).id) or largest(*of))
        before = torch.get_rng_state()
        outcomes.append(run(loaded))
        assert torch.equal(torch.get_rng_state(), before)
    assert len(tried) == 1
    plain, after = outcomes
    assert filecmp.cmp(plain.weights, after.weights, shallow=False)
    assert steps_of(plain.metrics) == steps_of(after.metrics)
    for path in sorted((plain.output_dir / "checkpoints").rglob("*.safetensors")):
        assert filecmp.cmp(path, after.output_dir / path.relative_to(plain.output_dir), shallow=False), path


@pytest.mark.usefixtures("bounded")
def test_a_step_that_cannot_be_tried_for_another_reason_is_said_and_the_run_goes_on(folder: Path) -> None:
    with heard() as told, Refusing("attempt", "backward", error=lambda: ZeroDivisionError("all draws are 0")):
        assert run(loaded_run(folder, data={"held_out": 0}, optimization={"steps": 1})).finished
    assert "no step could be tried before training: ZeroDivisionError: all draws are 0\n" in told.getvalue()


def test_the_largest_micro_batch_has_most_tokens_and_is_the_first_of_several(folder: Path) -> None:
    names = [put_sound(folder / "data", number, steps=12) for number in (50, 51)]
    planned = plan(draft(loaded_run(folder, data={"held_out": 0}, optimization={"batch_size": 2})).checked())
    manifest, sources = planned.manifest, planned.outline.strategy.sources()
    everything = [planned.order.micro_batch(index) for index in range(planned.order.per_epoch)]
    assert set(largest(planned.order, manifest, sources, 0, 1000).names) == set(names)
    first_of_two = next(each for each in everything if len(each.names) == 2)
    count = 1 + everything.index(first_of_two)
    assert largest(planned.order, manifest, sources, 0, count) == first_of_two


# ---- samples


SAMPLES = {
    "validation": {
        "samples": [{"prompt": "a reedy tone"}, {"prompt": "a glassy tone"}],
        "interval": 1, "video_dims": [32, 32, 9], "frame_rate": 24.0, "inference_steps": 2, **PLAIN,
    },
    "data": {"held_out": 0},
    "optimization": {"steps": 2},
}  # fmt: skip


@pytest.mark.parametrize(("function", "doing"), [("euler", "generating"), ("shown", "decoding")])
def test_a_sample_for_which_memory_does_not_suffice_costs_itself_alone(folder: Path, function: str, doing: str) -> None:
    with heard() as told, Refusing(function):
        outcome = run(loaded_run(folder, **SAMPLES))
    assert outcome.finished
    assert [path.name for path in sorted((folder / "out" / "samples").glob("step_*"))] == [
        "step_000000_2.wav", "step_000001_1.wav", "step_000001_2.wav", "step_000002_1.wav", "step_000002_2.wav",
    ]  # fmt: skip
    lines = without_sizes(told.getvalue().replace(str(folder), "TMP")).splitlines()
    (at,) = [number for number, line in enumerate(lines) if "is skipped" in line]
    assert lines[at] == f'the sample "a reedy tone" is skipped, and the run continues: {SIZES} while {doing} it.'
    assert lines[at + 1].startswith("    Each of these needs less memory: acceleration.")
    assert ("vae_tiling" in lines[at + 1]) == (doing == "decoding")


def test_a_sample_that_never_fits_is_told_of_each_time_and_what_to_do_once(folder: Path) -> None:
    with heard() as told, Refusing("shown", times=1000):
        outcome = run(loaded_run(folder, **SAMPLES))
    assert outcome.finished
    assert not outcome.generations
    said = told.getvalue()
    assert said.count("is skipped") == 6
    assert said.count("Each of these needs less memory") == 2


def test_held_out_clips_are_left_out_likewise(folder: Path) -> None:
    with heard() as told, Refusing("_one", "forward"):
        outcome = run(loaded_run(folder, optimization={"steps": 1}))
    assert outcome.finished
    assert len(list((folder / "out" / "samples").glob("step_000000_*"))) == 1
    assert len(list((folder / "out" / "samples").glob("step_000001_*"))) == 2
    assert "is skipped, and the run continues" in told.getvalue()


# ---- what is said


def test_the_page_shows_the_message_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU of 24 GB, of two clips of the released model's grid, in the third step of a run that saves itself after every other one."""
    loaded = loaded_run(folder, **SAVED)
    refused(folder, loaded, Refusing("_micro_step", "forward", where={"doing": "training step 3"}))
    there = {"is_gpu": True, "peak_gpu_memory": int(23.1 * 2**30), "gpu_memory": int(23.7 * 2**30), "gpu_memory_of_others": 2**29}
    for name, value in there.items():
        monkeypatch.setattr(f"ltxcore.memory.{name}", lambda device, value=value: value)
    clips, none = {name: Entry(shape=(128, 12, 16, 24)) for name in ("disc", "tone")}, torch.empty(0)
    given = ModelInput(torch.empty(2, 12 * 16 * 24, 128, device="meta"), none, none, none, none)
    words = in_words(tuple(clips), {"video": given}, Manifest({"video": clips}), (8, 32, 32))
    found = attrs.evolve(advice(loaded), device=torch.device("cuda:0"))
    with pytest.raises(OutOfMemory) as caught, found.during(f"training step 3 on {words}", TRAINING):
        raise torch.OutOfMemoryError(MESSAGE)
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "less-memory.md").read_text()
    assert f"```\n{message(caught.value, folder).replace('TMP/', '')}\n```" in page


# ---- what takes less


def advice(loaded: LoadedRun, processes: int = 1) -> Advice:
    return Advice(plan(draft(loaded).checked()), 0, processes, torch.device("cpu"))


def _less(folder: Path, **changed: Any) -> Advice:
    return advice(loaded_run(folder, **changed))


def test_nothing_is_named_that_is_set_already_or_would_be_refused(folder: Path) -> None:
    lean = {
        "acceleration": {"mixed_precision_mode": "bf16", "quantization": "int8", "offload_optimizer_during_validation": True, "vae_tiling": True},
        "optimization": {"batch_size": 1, "enable_gradient_checkpointing": True},
    }  # fmt: skip
    found = _less(folder, **lean)
    assert found.cheapest(DRAWING) == [
        'acceleration.quantization = "nf4", which needs `pip install "ltx[low-memory]"`',
        "acceleration.offload_blocks = 4",
    ]
    assert "lora.rank = 8" not in found.cheapest(TRAINING)
    full = _less(folder, model={"model_path": "tiny-untrained", "training_mode": "full"}, lora={})
    assert full.cheapest(LOADING) == ['acceleration.mixed_precision_mode = "bf16"']


def test_what_helps_is_another_thing_at_another_time(folder: Path) -> None:
    found = _less(folder)
    assert found.cheapest(TRAINING)[0] == "optimization.enable_gradient_checkpointing = true"
    assert found.cheapest(MEASURING)[0] == "acceleration.offload_optimizer_during_validation = true"
    assert found.cheapest(DECODING)[0] == "acceleration.vae_tiling = true"


def test_several_processes_are_told_of_what_divides_the_model_and_which_one_it_was(folder: Path) -> None:
    loaded = loaded_run(folder, engine={"name": "zero", "stage": 2})
    found = attrs.evolve(advice(loaded, 2), rank=1)
    assert found.cheapest(LOADING) == [
        'acceleration.mixed_precision_mode = "bf16"', "engine.stage = 3", 'engine.offload = "optimizer"',
    ]  # fmt: skip
    with pytest.raises(OutOfMemory, match=r"^process 1 of 2: CPU memory ran out \(.*\) while loading\n"), found.during("loading", LOADING):
        raise MemoryError


def test_a_machine_beside_a_gpu_is_told_of_what_lies_in_its_memory(folder: Path) -> None:
    changed = {
        "acceleration": {"offload_blocks": 2},
        "optimization": {"enable_gradient_checkpointing": True},
        "data": {"num_dataloader_workers": 2},
    }
    found = attrs.evolve(_less(folder, **changed), device=torch.device("cuda:0"))
    with pytest.raises(OutOfHostMemory) as caught, found.during("training", TRAINING):
        raise MemoryError
    said = (
        "Each of these needs less memory: acceleration.offload_blocks below 2; data.num_dataloader_workers below 2; fewer other programs."
    )
    assert said in str(caught.value)


def test_the_state_of_the_optimizer_is_foreseen_where_it_would_not_fit_beside_a_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = plan(draft(loaded_run(folder)).checked())
    need = need_at_start(planned, 1)
    assert isinstance(need, Need)
    found = Advice(planned, 0, 1, torch.device("cuda:0"), need)
    monkeypatch.setattr("ltxcore.train.out_of_memory.gpu_memory", lambda device: 10 * 2**20)
    monkeypatch.setattr("ltxcore.train.out_of_memory.peak_gpu_memory", lambda device: 10 * 2**20 - need.states.optimizer)
    assert found.of_first_update() == ""
    monkeypatch.setattr("ltxcore.train.out_of_memory.peak_gpu_memory", lambda device: 10 * 2**20 - need.states.optimizer + 1)
    assert found.of_first_update().startswith(
        "WARNING: a step takes up to 10.0 MiB of the 10.0 MiB of cuda:0, and from the first update on, the optimizer state takes 0.0 MiB more. "
        "`ltx plan` expects the run to need about 1.0 GiB of a GPU. Each of these needs less memory: "
    )
