"""The template of `ltx plugins new` for commands: one that works, and its tests."""

from __future__ import annotations

from ltxcore.cli.beginning import Beginning

COMMAND = Beginning(
    does="the clips of a folder are counted, and their length is added up",
    made="adds up the lengths of clips",
    use="ltx $name clips",
    place="On the command line",
    language="bash",
    method="$name",
    change="do what you want",
    module='''\
"""A command that adds up the lengths of the clips in a folder."""

from __future__ import annotations

from pathlib import Path

import click
from ltxcore.api import hookimpl
from ltxcore.api.commands import FilePath


@click.command()
@click.argument("folder", type=FilePath(exists=True, file_okay=False))
def $name(folder: Path) -> None:
    """Count the clips in FOLDER, and add up their lengths."""
    from ltxcore.api.dataset import media_in  # imported here, so that no other command waits for it
    from ltxcore.api.media import probe

    clips = [name for name, kind in media_in(folder).items() if kind == "video"]
    seconds = sum(probe(folder / name).duration or 0 for name in clips)
    click.echo(f"{len(clips)} clips, {seconds:.1f} seconds")


@hookimpl
def ltx_commands() -> dict[str, click.Command]:
    return {"$name": $name}
''',
    test='''\
"""Test that the command $name prints what it should."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from ltxcore.testing import check_imports_lightly

from $module import $name


@pytest.mark.parametrize("option", ["--help", "--nothing"])
def test_it_explains_itself(option: str) -> None:
    assert "FOLDER" in CliRunner().invoke($name, [option]).output


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("$module")


def test_it_adds_up_the_lengths_of_the_clips(tmp_path: Path) -> None:
    import torch
    from ltxcore.api import Clip
    from ltxcore.api.media import write_media

    for name in ("one", "two"):
        write_media(tmp_path / name, Clip(torch.zeros(12, 32, 32, 3, dtype=torch.uint8), 24.0))
    assert CliRunner().invoke($name, [str(tmp_path)]).output == "2 clips, 1.0 seconds\\n"
''',
)
