"""What a plan shows: parts that add up to the peak, remedies that a run file can take, and names that `ltx` has."""

from __future__ import annotations

from typing import Any

import attrs
import click
import pytest

from helpers.training_runs import sound_set, tables, write_run
from ltxcore.cli.new import command as new
from ltxcore.cli.plan import plan
from ltxcore.config.load import load_run
from ltxcore.planner.cost_in_json import machine
from ltxcore.planner.costs import cost
from ltxplugins.studio.run_file.making import MODELS, PURPOSES
from ltxplugins.studio.run_file.planning import gib, lasts, one_step
from ltxplugins.studio.run_file.plans import GPUS, RELEASED, parts_of, remedy_of


def choices(command: click.Command, name: str) -> set[str]:
    (option,) = (each for each in command.params if each.name == name)
    assert isinstance(option.type, click.Choice)
    return {str(each) for each in option.type.choices}


def test_the_studio_offers_what_the_commands_offer() -> None:
    assert choices(plan, "gpu_name") == set(GPUS)
    assert choices(new, "model") == set(MODELS)
    assert choices(new, "purpose") == set(PURPOSES)
    (model,) = (each for each in plan.params if each.name == "model")
    assert isinstance(model, click.Option)
    assert all(name in (model.help or "") for name in RELEASED)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("plan")
    sound_set(folder / "set", 6)
    return machine(cost(load_run(write_run(folder, tables(folder / "set", folder / "out"))), 1, 2**34))


@pytest.mark.parametrize(
    ("changed", "moment"),
    [
        ({}, "in forward and backward"),
        ({"decoding": 2**32}, "as samples are decoded"),
        ({"step": 2**32}, "as the optimizer steps"),
    ],
)
def test_the_parts_add_up_to_the_peak(told: dict[str, Any], changed: dict[str, int], moment: str) -> None:
    gpu = {**told["gpu"], **changed}
    lasting = gpu["weights"] + gpu["average"] + gpu["copy"]
    moments = {
        "as samples are decoded": lasting + gpu["kept"] + gpu["optimizer"] + gpu["decoding"],
        "as the optimizer steps": lasting + gpu["gradients"] + gpu["optimizer"] + gpu["step"],
        "in forward and backward": told["gpu_peak"],
    }
    said, parts = parts_of({"gpu": gpu, "gpu_peak": moments[moment]})
    assert said == moment
    assert sum(size for _, size in parts) == moments[moment]
    assert all(size > 0 for _, size in parts)


@pytest.mark.parametrize(
    ("said", "changes", "gpus"),
    [
        (["acceleration.offload_blocks = 40"], [("acceleration.offload_blocks", "40")], 0),
        (['acceleration.quantization = "nf4", which needs `pip install "ltx[low-memory]"`'], [("acceleration.quantization", '"nf4"')], 0),
        (['engine.stage = 3, and engine.offload = "all"'], [("engine.stage", "3"), ("engine.offload", '"all"')], 0),
        (["--gpus 8"], [], 8),
        (["a.b = 1", "--gpus 8"], [("a.b", "1")], 8),
        (["something that only a person can do", "a.b = 1"], [], 0),
    ],
)
def test_a_remedy_is_taken_apart_into_keys_and_values(said: list[str], changes: list[tuple[str, str]], gpus: int) -> None:
    found = remedy_of({"changes": said, "gpu_peak_with_margin": 1, "host": 2, "seconds": 3.0})
    assert attrs.astuple(found) == (tuple(said), tuple(changes), gpus, 1, 2, 3.0)


def test_sizes_and_times_are_said_as_people_say_them() -> None:
    assert [gib(size) for size in (0, 2**20, 2**30, 50.25 * 2**30)] == ["0 MiB", "1 MiB", "1.0 GiB", "50.2 GiB"]
    assert [one_step(seconds) for seconds in (0.0065, 17.667, 240.4)] == ["0.0065 s", "18 s", "240 s"]
    assert [lasts(seconds) for seconds in (0.1, 60, 600, 20_000, 10**6)] == ["1 s", "60 s", "10 minutes", "5.6 hours", "11.6 days"]
