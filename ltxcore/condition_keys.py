"""Keys that conditions share, to be declared as fields of their classes."""

from __future__ import annotations

from typing import Any

import attrs

IF_SET = "if_set"
"""The name, in a field's metadata, that marks a key that is written only if its value is not the default, so that run files and metadata from
before the key existed are still written as they were.
"""


def level_key() -> Any:
    """Declare the key `level`, to be passed to `LatentState.given` or `LatentState.append`: `level: float = level_key()`."""
    return attrs.field(
        default=0.0,
        validator=[attrs.validators.ge(0.0), attrs.validators.lt(1.0)],
        metadata={"help": "noise level at which the tokens are given: 0 is clean", "unit": "sigma", IF_SET: True},
    )


def strength_key() -> Any:
    """Declare the key `strength`, to be passed to `LatentState.append`: `strength: float = strength_key()`."""
    return attrs.field(
        default=1.0,
        validator=[attrs.validators.gt(0.0), attrs.validators.le(1.0)],
        metadata={"help": "weight with which the target and these tokens attend to each other", "unit": "share", IF_SET: True},
    )
