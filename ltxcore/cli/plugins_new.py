"""`ltx plugins new`, which writes a package with a plugin that works and that the user can change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from types import MappingProxyType

import attrs
import click

from ltxcore import __version__
from ltxcore.api.commands import FilePath
from ltxcore.cli.beginnings import BEGINNINGS
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
description = "The $kind $name for ltx"
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

The $kind `$name` for ltx: $does.

```bash
python -m pip install -e ".[dev]"
pytest
ltx plugins show $name
```

$place:

```$language
$use
```
"""

FILES: Mapping[str, str] = MappingProxyType({"pyproject.toml": PYPROJECT, "README.md": README, "src/$module/py.typed": ""})
"""The paths and contents of the package's files, other than its module and its test."""

SAID = """\
Made $folder: the $kind "$name", which $made.

  cd $folder
  python -m pip install -e ".[dev]"
  pytest
  ltx plugins show $name

Change $method() in src/$module/__init__.py to $change."""


@click.command("new")
@click.argument("name")
@click.option("--kind", type=click.Choice(list(BEGINNINGS)), default="condition", show_default=True, help="The kind of plugin to make.")
@click.option("--into", type=FilePath(file_okay=False), default=Path(), help="Folder to make the package in.")
def new(name: str, kind: str, into: Path) -> None:
    """Create a package with a plugin NAME that passes its own tests.

    NAME consists of small letters, digits and single underscores, such as every_other. A package may offer plugins of several
    kinds.
    """
    folder = into / f"ltx-{name.replace('_', '-')}"
    _check(name, kind, folder)
    beginning = BEGINNINGS[kind]
    words = {
        **attrs.asdict(beginning),
        "kind": kind.replace("_", " "),
        "name": name,
        "cls": "".join(part.capitalize() for part in name.split("_")),
        "module": f"ltx_{name}",  # in place of the text of that module
        "distribution": f"ltx-{name.replace('_', '-')}",
        "version": __version__,
        "folder": str(folder),
    }
    with making(folder) as beside:
        files = {**FILES, "src/$module/__init__.py": beginning.module, "tests/test_$name.py": beginning.test}
        words["use"] = Template(beginning.use).substitute(words)
        for path, text in files.items():
            file = beside / Template(path).substitute(words)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(Template(text).substitute(words), encoding="utf-8")
    click.echo(Template(SAID).substitute(words))


def _check(name: str, kind: str, folder: Path) -> None:
    """Refuse a package that would overwrite files, or that could not be installed.

    Raises:
        ConfigError: a file would be overwritten, or the package could not be installed.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise ConfigError(
            f'"{name}" is not a valid name for a plugin', remedy="Use small letters, digits and single underscores, such as every_other."
        )
    taken = load().of_kind(kind).get(name)
    if taken is not None:
        raise ConfigError(
            f'the {kind.replace("_", " ")} "{name}" already exists; it comes from {taken.origin}', remedy="Choose another name."
        )
    if folder.exists():
        raise ConfigError(f"{folder} already exists", remedy="Choose another name, or another folder with --into.")
