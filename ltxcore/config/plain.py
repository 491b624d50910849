"""From attrs objects back to what TOML can hold."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import attrs

from ltxcore.conditions import ConditionUse
from ltxcore.config.keys import is_key


def plain(value: Any) -> Any:
    """Numbers, texts, lists and tables; what is None is left out of tables."""
    if isinstance(value, ConditionUse):
        folders = {role.source_key: value.sources[role.name] for role in value.roles}
        return {"type": value.type, "probability": value.probability, **plain(value.condition), **folders}
    if attrs.has(type(value)):
        fields = [field for field in attrs.fields(type(value)) if is_key(field)]
        return plain({field.alias or field.name: getattr(value, field.name) for field in fields})
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(inner) for inner in value)
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, PurePath):
        return str(value)
    return plain(value.value) if isinstance(value, Enum) else value
