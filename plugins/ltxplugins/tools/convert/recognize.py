"""Recognize from the content of a configuration which trainer the configuration is for, and convert the configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ltxcore.api import ConfigError
from ltxcore.api.config import parsed_toml, trainer_of
from ltxplugins.tools.convert.ai_toolkit import convert_ai_toolkit
from ltxplugins.tools.convert.diffusion_pipe import convert_diffusion_pipe
from ltxplugins.tools.convert.kinds import plain, spoken
from ltxplugins.tools.convert.musubi import convert_musubi, convert_musubi_command
from ltxplugins.tools.convert.old import ACCELERATE, FIELDS, Converted
from ltxplugins.tools.convert.old import convert as convert_ltx_trainer
from ltxplugins.tools.convert.reading import Log
from ltxplugins.tools.convert.settings import Settings
from ltxplugins.tools.convert.toml_tree import commands, toml_tree
from ltxplugins.tools.convert.tree import Table, parse

AI_TOOLKIT, MUSUBI, DIFFUSION_PIPE, LTX_TRAINER = "ai-toolkit", "musubi-tuner", "diffusion-pipe", "ltx-trainer"

NAMES: Mapping[str, str] = {**{name: name for name in (AI_TOOLKIT, DIFFUSION_PIPE, LTX_TRAINER)}, "musubi": MUSUBI}
"""The trainers, by the name that `--from` takes."""

KNOWN = (
    "`ltx convert` reads configurations of ltx-trainer (YAML), ai-toolkit (YAML or JSON), musubi-tuner (TOML, or its command line in a text file) "
    "and diffusion-pipe (TOML)."
)

OF_LTX_TRAINER = frozenset(FIELDS) | ACCELERATE | {"training_strategy", "validation"}

SURROGATES = re.compile(r"(?:\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})+")


def convert(text: str, path: str, *, start: Path, folder: Path, trainer: str = "") -> Converted:
    """Convert a configuration of any known trainer to the equivalent run file.

    Args:
        text: the text of the configuration.
        path: the path of the configuration, for messages.
        start: the folder where the configuration's relative paths begin: the one in which the trainer was started.
        folder: the folder of the run file, where its relative paths will begin.
        trainer: the trainer; "" if it is to be recognized.

    Raises:
        ConfigError: the trainer is not known, or something is wrong with the configuration; the error names everything
            that is wrong.
    """
    if not text.strip():
        raise ConfigError("is empty", where=path, remedy=KNOWN)
    trainer = trainer or recognized(text, path)
    if trainer == LTX_TRAINER:
        return convert_ltx_trainer(text, path, start=start, folder=folder)
    log = Log(path, start.absolute(), folder.absolute())
    made = CONVERSIONS[trainer](text, log)
    log.refuse()
    made.run.head.lines[:0] = _heading(path, trainer)
    return Converted(str(made.run), tuple(log.remarks))


def _heading(path: str, trainer: str) -> list[str]:
    return [f"# Made by `ltx convert` from {Path(path).name}, a configuration of {trainer}."]


def recognized(text: str, path: str) -> str:
    """Return the trainer that a configuration is for.

    Raises:
        ConfigError: the trainer is not known, or the text is known not to be a training configuration.
    """
    if next(commands(text, path), None) is not None:
        return MUSUBI
    document = _toml(text, path)
    if document is None:
        tree = parse(_yaml(text), path)
        if not isinstance(tree, Table):
            raise ConfigError(f"holds {spoken(tree)}, not the tables of a configuration", where=path, remedy=KNOWN)
        found = trainer_of(plain(tree))
        if found:
            return found
        if not OF_LTX_TRAINER.isdisjoint(tree.values):
            return LTX_TRAINER
        raise ConfigError("is not a configuration of a known trainer", where=path, remedy=KNOWN)
    if found := trainer_of(document):
        return found
    for key, owner, named in (("datasets", MUSUBI, "dataset_config"), ("directory", DIFFUSION_PIPE, "dataset")):
        if isinstance(document.get(key), list):
            remedy = f"Name the configuration of the training, whose key {named} names this file."
            raise ConfigError(f"is the dataset of a configuration of {owner}", where=path, remedy=remedy)
    if "training_strategy" in document or "model_path" in (model if isinstance(model := document.get("model"), dict) else {}):
        raise ConfigError("is a run file already", where=path, remedy=f"Check it: ltx check {path}")
    raise ConfigError("is not a configuration of a known trainer", where=path, remedy=KNOWN)


def _toml(text: str, path: str) -> dict[str, Any] | None:
    """Return a TOML document; None if the text is not TOML."""
    try:
        return parsed_toml(text, Path(path))
    except ConfigError:
        return None


def _yaml(text: str) -> str:
    """Return a text that YAML can read: in JSON, tabs are replaced, and characters beyond U+FFFF are written out instead of escaped."""
    if not text.lstrip().startswith("{"):
        return text
    return SURROGATES.sub(
        lambda found: found[0].encode().decode("unicode_escape").encode("utf-16", "surrogatepass").decode("utf-16"), text
    ).replace("\t", "  ")


def _of_ai_toolkit(text: str, log: Log) -> Settings:
    tree = parse(_yaml(text), log.path)
    if not isinstance(tree, Table):
        raise ConfigError(f"holds {spoken(tree)}, not a job of ai-toolkit", where=log.path)
    return convert_ai_toolkit(tree, log)


def _of_musubi(text: str, log: Log) -> Settings:
    found = list(commands(text, log.path))
    return convert_musubi_command(found, log) if found else convert_musubi(toml_tree(text, log.path), log)


def _of_diffusion_pipe(text: str, log: Log) -> Settings:
    return convert_diffusion_pipe(toml_tree(text, log.path), log)


CONVERSIONS: Mapping[str, Callable[[str, Log], Settings]] = {
    AI_TOOLKIT: _of_ai_toolkit,
    MUSUBI: _of_musubi,
    DIFFUSION_PIPE: _of_diffusion_pipe,
}
