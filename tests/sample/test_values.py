"""Files of values in generation are encoded as their column was for training, and reach the condition as in training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import torch
from safetensors.torch import save_file

from helpers.columns_made import Paced, Speed, registry_with
from helpers.sample_made import condition, encoded, info, message, request
from ltxcore.conditions import SampleCondition
from ltxcore.config.reading import Unreadable
from ltxcore.config.sample_tables import SampleReader, sample_keys, written
from ltxcore.config.structurer import Structurer
from ltxcore.errors import ConfigError, LtxError
from ltxcore.protocols import Inputs, Role
from ltxcore.sample.empty_tokens import modalities_of
from ltxcore.sample.media_needs import plan_generations
from ltxcore.sample.sampler import conditioned, unknown
from ltxcore.sample.values import params_of, params_of_loras, told_params
from ltxcore.state import LatentState

RAMP = list(range(17))


@attrs.frozen
class Weather:
    """A condition whose values no column encodes: two numbers for each latent frame, and as many as there are."""

    modalities = frozenset({"video"})
    appends = True
    roles: ClassVar = (Role("weather", source_key="weather_dir", kind="values", shape=("K", "F", 2)),)

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        weather = inputs.values("weather").flatten(1).mean(dim=1)
        return state.append(weather[:, None, None].expand(-1, 1, state.clean.shape[-1]), state.positions[:, :, :1])


def file(path: Path, held: Any) -> Path:
    path.write_text(json.dumps(held))
    return path


def paced(path: Path, **more: Any) -> SampleCondition[Any, Any]:
    return condition("paced", cls=Paced, tensors={"speed": path}, encoders={"speed": ("speed", Speed())}, **more)


def refused(folder: Path, *conditions: Any) -> str:
    with pytest.raises(LtxError) as error:
        encoded(*conditions)
    return message(error.value, folder)


def test_a_file_is_encoded_by_the_column_of_the_role(tmp_path: Path) -> None:
    (found,) = encoded(paced(file(tmp_path / "ramp.json", RAMP))).conditions
    assert found.tensors["speed"].tolist() == [[0, 4.5, 12.5]]


def test_the_parameters_of_training_are_used(tmp_path: Path) -> None:
    asked = request(paced(file(tmp_path / "ramp.json", RAMP)))
    (planned,) = plan_generations([asked], modalities_of(info()), params={"speed": {"unit": 2.0}})
    assert planned.conditions[0].tensors["speed"].tolist() == [[0, 2.25, 6.25]]
    with pytest.raises(
        ConfigError,
        match='the column "speed" does not take the parameters that the samples of training were encoded with: unit: must be a number',
    ):
        plan_generations([asked], modalities_of(info()), params={"speed": {"unit": "fast"}})
    with pytest.raises(ConfigError, match="were encoded with: units: there is no such key"):
        plan_generations([asked], modalities_of(info()), params={"speed": {"unit": 1.0, "units": 2.0}})


def test_without_a_column_the_file_holds_the_values_as_they_are(tmp_path: Path) -> None:
    save_file({"values": torch.arange(24.0).reshape(4, 3, 2)}, tmp_path / "weather.safetensors")
    (found,) = encoded(condition("weather", cls=Weather, tensors={"weather": tmp_path / "weather.safetensors"})).conditions
    assert found.tensors["weather"].shape == (1, 4, 3, 2)


def test_values_reach_the_condition_as_in_training(tmp_path: Path) -> None:
    whole = encoded(paced(file(tmp_path / "ramp.json", RAMP)))
    start = unknown(whole, "video", 128)
    after = conditioned(start, whole.canvas.modalities["video"], whole.conditions)
    trained = Paced().apply(start, Inputs(tensors={"speed": torch.tensor([[0, 4.5, 12.5]])}))
    assert torch.equal(after.appended, trained.appended)
    assert after.appended[0, :, 0].tolist() == [0, 4.5, 12.5]
    assert torch.equal(after.positions, trained.positions)


def test_files_that_do_not_fit_are_refused_before_anything_is_encoded(tmp_path: Path) -> None:
    place = "validation.samples.0.conditions.0: "
    assert refused(tmp_path, paced(file(tmp_path / "short.json", [1, 2]))) == (
        f'{place}TMP/short.json, column "speed": has 2 entries, but its video has 17 frames\n    Write one entry for each of them.'
    )
    assert refused(tmp_path, condition("weather", cls=Weather, tensors={"weather": file(tmp_path / "flat.json", [1, 2])})) == (
        f"{place}TMP/flat.json: has values of shape [2], but the condition takes [K, F, 2], which is [K, 3, 2] for what is generated\n"
        "    Write values of the shape that the condition takes."
    )
    endless = file(tmp_path / "endless.json", [float("inf")] * 17)
    assert (
        refused(tmp_path, paced(endless))
        == f'{place}TMP/endless.json, column "speed": the encoded values are not finite\n    Write finite numbers.'
    )


def test_a_validation_sample_names_the_file_and_is_written_as_it_was_read(tmp_path: Path) -> None:
    file(tmp_path / "ramp.json", RAMP)
    reader = SampleReader(Structurer(registry_with(speed=Speed), tmp_path))
    (found,) = reader.conditions([{"type": "paced", "speed": "ramp.json"}])
    assert (found.tensors, found.encoders) == ({"speed": tmp_path / "ramp.json"}, {"speed": ("speed", Speed())})
    assert written(found)["speed"] == str(tmp_path / "ramp.json")
    unknown_column = SampleReader(Structurer(registry_with(), tmp_path))
    with pytest.raises(Unreadable):
        unknown_column.condition(0, {"type": "paced", "speed": "ramp.json"})
    assert [mistake.what for mistake in unknown_column.structurer.reading.mistakes] == ['there is no column "speed"']


@pytest.mark.parametrize(("value", "said"), [([0.5, 1.0], "a list"), (0.1, "0.1")])
def test_numbers_in_place_of_a_file_are_refused_with_what_to_write(tmp_path: Path, value: Any, said: str) -> None:
    reader = SampleReader(Structurer(registry_with(speed=Speed), tmp_path))
    with pytest.raises(Unreadable):
        reader.condition(0, {"type": "paced", "speed": value})
    assert [(mistake.path, mistake.what, mistake.remedy) for mistake in reader.structurer.reading.mistakes] == [
        (
            ("speed",),
            f"must be the path of a file, not {said}",
            "Write the numbers to a file (.json, .csv, .npy, .safetensors), and name that file here.",
        )
    ]


def test_the_key_of_a_file_says_what_the_file_holds() -> None:
    found = {key.name: key.help for cls in (Paced, Weather) for key in sample_keys(cls, "video")}
    assert found["speed"] == 'file that the column "speed" encodes, such as numbers (.json, .csv, .npy, .safetensors)'
    assert found["weather"] == "file of numbers (.json, .csv, .npy, .safetensors) of shape [K, F, 2]"


@attrs.frozen
class Lora:
    """The metadata of a LoRA."""

    metadata: dict[str, str]
    path: Path = Path("a.safetensors")


def test_parameters_go_through_the_metadata_of_the_weights() -> None:
    said = told_params({"speed": Speed(2.0)})
    assert params_of_loras([Lora(said), Lora({}), Lora(said)]) == params_of({"speed": Speed(2.0)}) == {"speed": {"unit": 2.0}}
    assert told_params({}) == told_params(None) == {}


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        (
            {"columns": '{"speed": {"unit": 3.0}}'},
            'was trained with parameters of the column "speed" that differ from those of another LoRA',
        ),
        ({"columns": "2"}, 'the metadata "columns" of this LoRA cannot be read'),
        ({"columns": "{"}, 'the metadata "columns" of this LoRA cannot be read'),
    ],
)
def test_loras_that_disagree_or_are_damaged_are_refused(metadata: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=f"a.safetensors: {told}"):
        params_of_loras([Lora(told_params({"speed": Speed(2.0)})), Lora(metadata)])
