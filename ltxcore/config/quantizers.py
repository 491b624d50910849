"""A quantizer on the command line."""

from __future__ import annotations

from typing import Any

from ltxcore.config.acceleration import AccelerationTable
from ltxcore.config.packages import lacking
from ltxcore.config.plugin_option import read_option
from ltxcore.config.structurer import Structurer
from ltxcore.errors import ConfigError, Problem
from ltxcore.registry import Registry


def quantizer_of(text: str, registry: Registry, option: str = "--quantization") -> Any:
    """Return the quantizer that an option describes.

    Raises:
        ConfigError: there is no such quantizer, its keys are wrong, or a package that it needs is missing.
    """

    def read(structurer: Structurer, name: str, params: dict[str, Any]) -> Any:
        return structurer.converter.structure({"quantization": name, "quantization_params": params}, AccelerationTable).quantizer

    name, quantizer, problems = read_option(text, option, registry, read)
    problems += [Problem(what, f"{option} {text}", remedy) for what, remedy in lacking(quantizer, name, "int8")]
    if problems:
        raise ConfigError.of(problems)
    return quantizer
