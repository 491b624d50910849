"""The second file of a configuration, which the first file names: a dataset, arguments, or prompts."""

from __future__ import annotations

from pathlib import Path

import attrs

from ltxcore.api import ConfigError
from ltxcore.api.config import text_of
from ltxplugins.tools.convert.reading import Log, Old
from ltxplugins.tools.convert.settings import Settings
from ltxplugins.tools.convert.toml_tree import toml_tree
from ltxplugins.tools.convert.tree import Table


def found(log: Log, named: Path) -> Path | None:
    """Return the path of a file that a configuration names; None if there is no such file. The file is searched for where relative paths of
    the configuration begin, and then beside the configuration.
    """
    places = (log.start / named.expanduser(), Path(log.path).absolute().parent / named)
    return next((each for each in places if each.is_file()), None)


def text_at(to: Settings, old: Old, name: str, named: Path, lost: str, key: str) -> tuple[str, Log] | None:
    """Return the text of a file that a configuration names, and its log; None, with a remark, if there is no such file.

    Args:
        to: where the remark is written.
        old: the mapping that names the file.
        name: the key that names it.
        named: its path.
        lost: what is lost without the file.
        key: the key of the run file where the remark is written.
    """
    path = found(to.log, named)
    if path is None:
        to.note(old, name, f"does not exist: {lost}", key)
        return None
    return text_of(path, "Name a file."), attrs.evolve(to.log, path=str(path), called=path.name)


def dataset_at(to: Settings, old: Old, name: str, named: Path) -> tuple[Table, Log] | None:
    """Return the dataset's TOML that a configuration names; None, with a remark, if there is no such file."""
    lost = "the dataset is unknown. Run `ltx convert` where that file is, or write the folder of the clips in data.dataset"
    read = text_at(to, old, name, named, f"{lost}.", "data.")
    if read is None:
        return None
    text, log = read
    if not text.strip():
        raise ConfigError("is empty", where=log.path, remedy="Name the dataset's TOML file.")
    return toml_tree(text, log.path), log
