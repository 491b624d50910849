"""`[preprocessing.columns.NAME]`: what the dataset calls a column, and the keys of its class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tomli

from ltxcore.config.load import LoadedRun
from ltxcore.errors import ConfigError

Load = Callable[[str], LoadedRun]

PLUGIN = """
import attrs
from ltxcore.api import hookimpl


@attrs.frozen
class Speed:
    kind = "values"
    modality = "video"
    shape = ("F",)
    unit: float = attrs.field(default=1.0, validator=attrs.validators.gt(0), metadata={"help": "the speed that counts as 1"})

    def encode(self, cell):
        return cell.numbers() / self.unit


@hookimpl
def ltx_columns():
    return {"speed": Speed}
"""


@pytest.fixture
def with_plugin(folder: Path, minimal: str) -> Callable[[str], str]:
    (folder / "speed.py").write_text(PLUGIN)
    return lambda columns: f'plugins = ["speed.py"]\n{minimal}\n{columns}'


def test_keys_of_a_column_are_read_as_its_class_says(load: Load, with_plugin: Callable[[str], str]) -> None:
    run = load(with_plugin('[preprocessing.columns.speed]\ncolumn = "v"\nunit = 2\n'))
    options = run.config.preprocessing
    assert (options.columns, options.encoders["speed"].unit) == ({"speed": {"column": "v", "unit": 2.0}}, 2.0)
    assert tomli.loads(run.resolved())["preprocessing"]["columns"] == {"speed": {"column": "v", "unit": 2.0}}
    again = load(with_plugin("[preprocessing.columns]\nspeed = {}\nvideo_mask = { column = 'm' }\n")).config.preprocessing
    assert again.columns == {"speed": {"unit": 1.0}, "video_mask": {"column": "m"}}


def test_a_table_with_a_type_adds_a_column_like_a_registered_one(load: Load, with_plugin: Callable[[str], str]) -> None:
    run = load(with_plugin('[preprocessing.columns.depth]\ntype = "reference_video"\ndownscale_factor = 2\n'))
    written = {"depth": {"type": "reference_video", "downscale_factor": 2}}
    assert run.config.preprocessing.columns == tomli.loads(run.resolved())["preprocessing"]["columns"] == written
    assert run.config.preprocessing.encoders["depth"].kind == "latents"


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("[preprocessing.columns.speed]\nunit = 0", "preprocessing.columns.speed.unit: must be above 0, not 0"),
        ("[preprocessing.columns.speed]\nunits = 2", 'preprocessing.columns.speed.units: there is no such key\n    Did you mean "unit"?'),
        ("[preprocessing.columns.sped]", 'preprocessing.columns.sped: there is no column "sped"\n    Did you mean "speed"?'),
        ("[preprocessing.columns]\nspeed = 2", "preprocessing.columns.speed: must be a table, not 2"),
        ('[preprocessing.columns.sped]\ntype = "reference_vid"', 'preprocessing.columns.sped.type: there is no column "reference_vid"'),
        (
            '[preprocessing.columns.other]\ntype = "speed"',
            'preprocessing.columns.other.type: the column "speed" can be there only once, since its plugin encodes the cells\n    Choose a column of media.',
        ),
        (
            '[preprocessing.columns."a/b"]\ntype = "video_mask"',
            'preprocessing.columns."a/b": "a/b" cannot be the name of a folder, which the column is encoded to',
        ),
        (
            '[preprocessing.columns.a]\ntype = "video_mask"\ndownscale_factor = 2',
            "preprocessing.columns.a.downscale_factor: there is no such key",
        ),
        (
            '[preprocessing.columns.speed]\ntype = "speed"',
            'preprocessing.columns.speed.type: the column "speed" is registered, so it has a type',
        ),
        (
            "[preprocessing.columns.reference_video]\ndownscale_factor = 0",
            "preprocessing.columns.reference_video.downscale_factor: must be at least 1, not 0",
        ),
        (
            '[preprocessing]\nvideo_mask_column = "m"\ncolumns = { video_mask = { column = "n" } }',
            "preprocessing.columns.video_mask.column: means the same as video_mask_column\n    Keep one of the two.",
        ),
    ],
)
def test_mistakes_in_them_are_told_at_their_key(load: Load, with_plugin: Callable[[str], str], columns: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(with_plugin(columns))
    assert told in str(error.value)
