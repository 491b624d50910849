"""Small configurations of ltx-trainer, and what they convert to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli
import yaml

from ltxcore.errors import ConfigError
from ltxplugins.tools.convert.old import Converted, convert

HERE = Path("/here")

MODEL = {"model": {"model_path": "/models/ltx.safetensors"}, "data": {"preprocessed_data_root": "/data"}}
LORA = {"lora": {"rank": 64}}
STRATEGY = {"training_strategy": {"name": "flexible", "audio": {"is_generated": True, "latents_dir": "audio_latents"}}}
WHOLE: dict[str, Any] = {**MODEL, **LORA, **STRATEGY}


def old_file(**changed: Any) -> str:
    """YAML of a small configuration; `changed` replaces or adds tables."""
    return yaml.safe_dump({**WHOLE, **changed}, sort_keys=False)


def converted(text: str, start: Path = HERE, folder: Path = HERE) -> Converted:
    return convert(text, "old.yaml", start=start, folder=folder)


def values(text: str) -> dict[str, Any]:
    """What the run file says."""
    return tomli.loads(converted(text).text)


def remarks(text: str) -> list[str]:
    """What is told of the conversion; each also stands in the run file."""
    done = converted(text)
    flat = " ".join(line.removeprefix("# ") for line in done.text.splitlines())
    for remark in done.remarks:
        assert remark in flat
    return list(done.remarks)


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        converted(text)
    return str(error.value)


def with_validation(**keys: Any) -> str:
    return old_file(validation=keys)


def strategy(**blocks: Mapping[str, Any]) -> str:
    return old_file(training_strategy={"name": "flexible", **blocks})
