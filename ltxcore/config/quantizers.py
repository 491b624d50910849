"""A quantizer on the command line, as `NAME` or with its keys: `NAME,key=value,key=value`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from ltxcore.config.packages import lacking
from ltxcore.config.prompts import pairs_of
from ltxcore.config.reading import Unreadable, spelled
from ltxcore.config.run_file import AccelerationTable
from ltxcore.config.structure import structurer_of
from ltxcore.errors import ConfigError, Problem
from ltxcore.registry import Registry


def quantizer_of(text: str, registry: Registry, option: str = "--quantization") -> Any:
    """Return the quantizer that an option describes.

    Raises:
        ConfigError: there is no such quantizer, its keys are wrong, or a package that it needs is missing.
    """
    name, _, keys = text.partition(",")
    where = f"{option} {text}"
    try:
        params = pairs_of(keys) if keys else {}
    except ValueError as error:
        raise ConfigError(str(error), where=where, remedy=f"Write it as {option} NAME,key=value.") from error
    structurer = structurer_of(registry, Path.cwd(), start="the working directory")
    table = None
    with suppress(Unreadable):
        table = structurer.converter.structure({"quantization": name, "quantization_params": params}, AccelerationTable)
    problems = [
        Problem(mistake.what, f"{where}: {spelled(mistake.path[1:])}" if mistake.path[1:] else where, mistake.remedy)
        for mistake in structurer.reading.mistakes
    ]
    quantizer = None if table is None or problems else table.quantizer
    problems += [Problem(what, where, remedy) for what, remedy in lacking(quantizer, name, "int8")]
    if problems:
        raise ConfigError.of(problems)
    return quantizer
