"""The form of a run file: a control for each type of key, with its help, default and limits; and mistakes at their fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ltxcore.api.config import parsed_toml, refusals
from ltxcore.config.jsonschema import json_schema
from ltxcore.registry import load
from ltxplugins.studio.run_file.editing import literal_of, with_value, without
from ltxplugins.studio.run_file.faults import faults_of
from ltxplugins.studio.run_file.form import Field, form_of
from ltxplugins.studio.run_file.look import every

EXAMPLES = sorted((Path(__file__).parents[4] / "examples").glob("*.toml"))
TEXT = """\
seed = "many"
stepz = 3

[model]
model_path = "tiny"

[training_strategy]
name = "flexible"

[training_strategy.video]
is_generated = true
latents_dir = "latents"
conditions = [{ type = "first_frame", probability = 2 }, { type = "nothing" }]

[lora]
rank = 16

[optimization]
optimizer_type = "adamw"
optimizer_params = { betas = [0.9, 0.99] }

[trackers.console]
every = 5
"""


@pytest.fixture(scope="module")
def schema() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(json.dumps(json_schema(load())))
    return found


@pytest.fixture(scope="module")
def fields(schema: Mapping[str, Any]) -> dict[str, Field]:
    return by_key(schema, TEXT)


def by_key(schema: Mapping[str, Any], text: str) -> dict[str, Field]:
    return {field.spelled: field for field in every(form_of(schema, parsed_toml(text, Path("run.toml"))))}


@pytest.mark.parametrize(
    ("key", "control"),
    [
        ("lora.rank", "number"),
        ("lora.type", "choice"),
        ("lora.use_rslora", "choice"),
        ("acceleration.compile", "switch"),
        ("model.model_path", "text"),
        ("model.loras", "lines"),
        ("optimization.betas", "numbers"),
        ("data.held_out", "scalar"),
        ("data.caption_dropout", "literal"),
        ("training_strategy.name", "choice"),
        ("training_strategy.video", "table"),
        ("training_strategy.video.conditions", "tables"),
        ("training_strategy.video.conditions[0].level", "literal"),
        ("trackers.console.every", "number"),
        ("optimization.optimizer_params.betas", "numbers"),
    ],
)
def test_each_type_of_key_has_its_control(fields: dict[str, Field], key: str, control: str) -> None:
    assert fields[key].control == control


def test_a_field_tells_help_unit_default_and_limits(fields: dict[str, Field]) -> None:
    rank, patience = fields["lora.rank"], fields["validation.frame_rate"]
    assert (rank.value, rank.default, rank.least, rank.whole, rank.is_set) == ("16", "32", "1", True, True)
    assert (patience.value, patience.default, patience.is_set) == ("", "24.0", False)
    assert patience.about.endswith("(frames per second)")
    assert fields["model.model_path"].is_required
    assert fields["training_strategy.video"].summary.startswith("is_generated true · latents_dir latents · conditions")


def test_a_key_that_no_schema_has_is_shown_so_that_it_can_be_removed(fields: dict[str, Field]) -> None:
    assert (fields["stepz"].is_unknown, fields["stepz"].value) == (True, "3")
    assert [each.spelled for each in fields.values() if each.is_unknown] == ["stepz"]


def test_a_value_of_another_type_is_shown_as_it_is(fields: dict[str, Field]) -> None:
    assert (fields["seed"].control, fields["seed"].value) == ("literal", '"many"')


def test_an_entry_of_an_unknown_kind_can_be_given_another(fields: dict[str, Field]) -> None:
    kind = fields["training_strategy.video.conditions[1].type"]
    assert (kind.control, kind.value) == ("choice", '"nothing"')
    assert ('"prefix"', "prefix") in kind.choices


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_field_of_every_example_can_be_written_back_and_says_the_same(schema: Mapping[str, Any], path: Path) -> None:
    text = path.read_text()
    document = parsed_toml(text, path)
    found = [field for field in every(form_of(schema, document)) if field.control not in ("table", "tables")]
    assert not any(field.is_unknown for field in found)
    changed = 0
    for field in found:
        if field.is_set:
            made = with_value(text, field.path, literal_of(field.control, field.value))
            assert parsed_toml(made, path) == document, field.spelled
            changed += 1
    assert changed > 5


def test_every_key_that_the_form_can_write_is_one_that_run_files_have(schema: Mapping[str, Any]) -> None:
    """Keys that are not in the file are all written, and then removed again, which leaves the values of the file as they were."""
    path = EXAMPLES[0]
    text = made = path.read_text()
    written = []
    for field in every(form_of(schema, parsed_toml(text, path))):
        literals = {"switch": "true", "number": field.least or "1", "choice": field.choices[0][0] if field.choices else ""}
        if field.is_set or field.control not in literals or field.path[0] == "engine" or len(field.path) > 2:
            continue
        made = with_value(made, field.path, literals[field.control])
        written.append(field.path)
    assert len(written) > 50
    assert "there is no such key" not in str(refusals(made, path))
    for key in reversed(written):
        made = without(made, key)
    left = {name: value for name, value in parsed_toml(made, path).items() if value != {}}
    assert left == parsed_toml(text, path)


def test_mistakes_are_found_at_their_lines_and_keys_as_check_reports_them(tmp_path: Path) -> None:
    found = {(fault.line, fault.key, fault.kind): fault for fault in faults_of(TEXT, tmp_path / "run.toml")}
    assert found[2, "stepz", "wrong"].what == "there is no such key"
    assert (13, "training_strategy.video.conditions[0].probability", "wrong") in found
    assert (13, "training_strategy.video.conditions[1].type", "wrong") in found


def test_a_text_that_is_not_toml_has_its_mistake_at_its_line(tmp_path: Path) -> None:
    (fault,) = faults_of("seed = 1\n[model\n", tmp_path / "run.toml")
    assert (fault.line, fault.kind) == (2, "wrong")


def test_what_this_machine_lacks_is_told_apart(tmp_path: Path) -> None:
    text = TEXT.replace('"many"', "1").replace("stepz = 3\n", "").replace('"tiny"', '"/nowhere/x.safetensors"')
    text = text.replace("probability = 2", "probability = 1").replace(', { type = "nothing" }', "")
    assert {fault.key: fault.kind for fault in faults_of(text, tmp_path / "run.toml")}["model.model_path"] == "here"


def test_names_that_a_python_file_may_register_are_not_called_mistakes_and_the_file_is_not_run(tmp_path: Path) -> None:
    was_run = tmp_path / "was_run"
    (tmp_path / "mine.py").write_text(f"open({str(was_run)!r}, 'w')\n")
    text = f'plugins = ["mine.py"]\n{TEXT}'.replace('"many"', "1").replace("stepz = 3\n", "").replace("probability = 2", "probability = 1")
    found = [fault for fault in faults_of(text, tmp_path / "run.toml") if "nothing" in fault.what]
    assert [fault.kind for fault in found] == ["unread"]
    assert not was_run.exists()
