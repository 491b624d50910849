"""`preprocessing.source` and `source_params`: keys of the source's own, which older keys of the table may say too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tomli

from ltxcore.config.load import LoadedRun, preprocessing_of, with_source
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.sources import read_rows
from ltxcore.errors import ConfigError
from ltxcore.registry import load as installed
from ltxplugins.sources.folder import Folder

Load = Callable[[str], LoadedRun]


def test_keys_of_a_source_are_read_as_its_class_says(load: Load, minimal: str) -> None:
    run = load(f'preprocessing = {{ source = "folder", source_params = {{ prefer = "video" }} }}\n{minimal}')
    assert run.config.preprocessing.reader == Folder(prefer="video")
    table = tomli.loads(run.resolved())["preprocessing"]
    assert (table["source"], table["source_params"]) == ("folder", {"prefer": "video"})


def test_an_older_key_of_the_table_is_the_sources(load: Load, minimal: str) -> None:
    run = load(f'preprocessing = {{ source = "folder", caption_from = "folder" }}\n{minimal}')
    assert run.config.preprocessing.reader == Folder(caption_from="folder")
    assert "caption_from" not in tomli.loads(run.resolved())["preprocessing"]
    alone = load(f'preprocessing = {{ caption_from = "folder" }}\n{minimal}').config.preprocessing
    assert (alone.source, alone.reader, alone.caption_from) == (None, None, "folder")


def test_without_a_name_the_sources_of_the_run_are_known_to_whoever_reads_its_dataset(load: Load, minimal: str, folder: Path) -> None:
    (folder / "lines.py").write_text(
        "from pathlib import Path\nimport attrs\nfrom ltxcore.api import hookimpl\nfrom ltxcore.api.sources import Row, Table\n\n"
        "@attrs.frozen\nclass Lines:\n    endings = ('.lines',)\n\n    def read(self, path: Path) -> Table:\n"
        "        return Table(path, tuple(Row(n, {'video': line}) for n, line in enumerate(path.read_text().split(), 1)))\n\n"
        "@hookimpl\ndef ltx_sources():\n    return {'lines': Lines}\n"
    )
    (folder / "set.lines").write_text("a.mp4\nb.mp4\n")
    options = load(f'plugins = ["lines.py"]\n{minimal}').config.preprocessing
    assert [row.values["video"] for row in read_rows(folder / "set.lines", options).rows] == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('source = "foldr"', 'preprocessing.source: there is no source "foldr"\n    Did you mean "folder"?'),
        (
            'source_params = { prefer = "video" }',
            "preprocessing.source_params: belong to a source, but no source is named\n    Name the source with the key source.",
        ),
        ('source = "table", prefer = "video"', 'preprocessing.prefer: the source "table" has no prefer\n    Remove it.'),
        (
            'source = "folder", prefer = "video", source_params = { prefer = "video" }',
            "preprocessing.prefer: has the same meaning as source_params.prefer\n    Keep one of the two.",
        ),
        (
            'source = "folder", source_params = { prefer = "sound" }',
            'preprocessing.source_params.prefer: must be "video" or "image", not the text "sound"',
        ),
        ('source = "folder", source_params = { captions = 1 }', "preprocessing.source_params.captions: there is no such key"),
    ],
)
def test_what_is_wrong_with_them_is_told_at_their_keys(load: Load, minimal: str, table: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(f"preprocessing = {{ {table} }}\n{minimal}")
    assert f"run.toml:1: {told}" in str(error.value)


def test_settings_and_options_of_a_command_name_a_source_too() -> None:
    assert preprocessing_of(["source=folder", "source_params.prefer=image"], installed()).reader == Folder(prefer="image")
    assert with_source(PreprocessingTable(source="folder", prefer="image"), installed()).reader == Folder(prefer="image")
    with pytest.raises(ConfigError) as error:
        with_source(PreprocessingTable(source="folder", source_params={"prefer": "sound"}), installed())
    assert str(error.value).startswith('--source-params prefer: must be "video" or "image"')
    with pytest.raises(ConfigError, match=r'--set: source: there is no source "x"'):
        preprocessing_of(["source=x"], installed())
