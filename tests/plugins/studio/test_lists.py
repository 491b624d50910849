"""What the studio's forms list and show as usual is what the commands of ltx take and do."""

from __future__ import annotations

import importlib

import attrs
import click
import pytest

from ltxcore.config.validation_samples import ValidationTable
from ltxplugins.studio.export.targets import DTYPES
from ltxplugins.studio.run_file.making import MODELS, PURPOSES
from ltxplugins.studio.run_file.plans import GPUS, RELEASED
from ltxplugins.studio.try_out.form import BASIC, MORE, Setting
from ltxplugins.studio.try_out.of_run import USUAL_SIZE

VALIDATION = attrs.asdict(ValidationTable())


def choices(command: str, option: str) -> tuple[str, ...]:
    """The values that an option of a command of ltx takes."""
    module = importlib.import_module(f"ltxcore.cli.{command}")
    found = getattr(module, command, None) or module.command
    (kind,) = (each.type for each in found.params if option in each.opts)
    assert isinstance(kind, click.Choice)
    return tuple(kind.choices)


def test_the_forms_list_what_the_commands_take() -> None:
    assert set(MODELS) == set(choices("new", "--model"))
    assert choices("new", "--for") == PURPOSES
    assert tuple(GPUS) == choices("plan", "--gpu")
    assert choices("export", "--dtype") == DTYPES


@pytest.mark.parametrize("setting", [each for each in MORE if each.choices], ids=lambda each: each.name)
def test_a_choice_of_the_try_screen_is_one_of_ltx_sample(setting: Setting) -> None:
    assert tuple(setting.choices) == choices("sample", setting.option)


@pytest.mark.parametrize("setting", [each for each in (*BASIC, *MORE) if VALIDATION.get(each.name) is not None], ids=lambda each: each.name)
def test_what_a_field_of_the_try_screen_shows_as_usual_is_the_default(setting: Setting) -> None:
    assert float(setting.usual) == VALIDATION[setting.name]


def test_the_usual_size_is_the_default() -> None:
    assert list(VALIDATION["video_dims"]) == USUAL_SIZE


def test_the_released_models_are_those_that_ltx_plan_knows() -> None:
    from ltxcore.models.base import RELEASED as KNOWN

    assert set(RELEASED) == set(KNOWN)
