"""`ltx plugins new`, which makes a package with a working condition as a start for another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from types import MappingProxyType

import click

from ltxcore import __version__
from ltxcore.api.commands import FilePath
from ltxcore.errors import ConfigError
from ltxcore.files import making
from ltxcore.registry import load

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "$distribution"
version = "0.1.0"
description = "The condition $name for ltx"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["attrs>=24.2", "ltx>=$version"]

[project.optional-dependencies]
dev = ["pytest>=8.3"]

[project.entry-points.ltx]
$name = "$module"

[tool.hatch.build.targets.wheel]
packages = ["src/$module"]

[tool.pytest.ini_options]
testpaths = ["tests"]
filterwarnings = ["error"]
"""

README = """\
# $distribution

The condition `$name` for ltx: every other latent frame of a clip, or latent step of a sound, is given.

```bash
python -m pip install -e ".[dev]"
pytest
ltx plugins show $name
```

In a run file:

```toml
[training_strategy.video]
is_generated = true
latents_dir = "latents"
conditions = [{ type = "$name", every = 2 }]
```
"""

MODULE = '''\
"""Every n-th latent frame of a clip, or latent step of a sound, is given."""

import attrs
from ltxcore.api import Inputs, LatentState, hookimpl


@attrs.frozen
class $cls:
    """Give every n-th latent frame of a clip, or latent step of a sound."""

    modalities = frozenset({"video", "audio"})
    content = "whole"  # where its medium lies on the target when sampling: at the "start", the "end", or all over

    every: int = attrs.field(
        default=2,
        validator=attrs.validators.ge(2),
        metadata={"help": "one of how many is given", "unit": "latent frames"},
    )

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Give tokens; `state.grid.frame`, `.row` and `.column` say where each of them lies."""
        return state.given(state.grid.frame % self.every == self.every - 1)


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"$name": $cls}
'''

TEST = '''\
"""$name keeps to the protocol, and gives what it says."""

import pytest
import torch
from ltxcore.api import Grid, Inputs, LatentState
from ltxcore.testing import check_condition, check_imports_lightly

from $module import $cls


@pytest.mark.parametrize("every", [2, 3])
def test_it_keeps_to_the_protocol(every: int) -> None:
    check_condition($cls(every))


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("$module")


def test_every_third_latent_step_is_given() -> None:
    grid = Grid(7, scale=(4, 1, 1))
    clean, positions = torch.zeros(1, 7, 4), torch.zeros(1, 1, 7, 2)
    state = LatentState.start("audio", grid, torch.tensor([25.0]), clean, positions)
    after = $cls(every=3).apply(state, Inputs())
    assert (1 - after.denoise_mask).tolist() == [[0, 0, 1, 0, 0, 1, 0]]
'''

FILES: Mapping[str, str] = MappingProxyType(
    {
        "pyproject.toml": PYPROJECT,
        "README.md": README,
        "src/$module/__init__.py": MODULE,
        "src/$module/py.typed": "",
        "tests/test_$name.py": TEST,
    }
)
"""The paths and contents of the package's files."""

SAID = """\
Made $folder: the condition "$name", which gives every other latent frame.

  cd $folder
  python -m pip install -e ".[dev]"
  pytest
  ltx plugins show $name

Change apply() in src/$module/__init__.py to give what you want."""


@click.command("new")
@click.argument("name")
@click.option("--into", type=FilePath(file_okay=False), default=Path(), help="Folder to make the package in.")
def new(name: str, into: Path) -> None:
    """Create a package with a condition NAME that passes its own tests."""
    folder = into / f"ltx-{name.replace('_', '-')}"
    _check(name, folder)
    words = {
        "name": name,
        "cls": "".join(part.capitalize() for part in name.split("_")),
        "module": f"ltx_{name}",
        "distribution": f"ltx-{name.replace('_', '-')}",
        "version": __version__,
        "folder": str(folder),
    }
    with making(folder) as beside:
        for path, text in FILES.items():
            file = beside / Template(path).substitute(words)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(Template(text).substitute(words), encoding="utf-8")
    click.echo(Template(SAID).substitute(words))


def _check(name: str, folder: Path) -> None:
    """Refuse a name that would overwrite something, or a package that could not be installed.

    Raises:
        ConfigError: why.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise ConfigError(
            f'"{name}" is not a valid name for a condition', remedy="Use small letters, digits and single underscores, such as every_other."
        )
    taken = load().of_kind("condition").get(name)
    if taken is not None:
        raise ConfigError(f'the condition "{name}" is there already, from {taken.origin}', remedy="Choose another name.")
    if folder.exists():
        raise ConfigError(f"{folder} is there already", remedy="Choose another name, or another folder with --into.")
