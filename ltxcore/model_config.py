"""Read configurations in model files from other programs. A configuration may be damaged JSON, or have settings from
which no model can be built.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ltxcore.errors import CheckpointError, LtxError, Problem, is_out_of_memory

MOST = 2**24
"""The largest integer allowed in a configuration. The largest integer in real configurations is the size of a
tokenizer's vocabulary, about 262,000.
"""

MOST_LAYERS = 1000
"""The largest number of layers of one kind. Real models have up to 64. Every layer is built, and building more than
this would take hours.
"""

AGAIN = "Download or copy the file again."


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """Parse a JSON object; None if the text is not a JSON object, or has too many nested levels or digits to be read."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def object_of(value: Any) -> dict[str, Any]:
    """Return a JSON object that is given as a mapping or as text; an empty object for anything else."""
    if isinstance(value, str):
        value = json_object(value)
    return dict(value) if isinstance(value, Mapping) else {}


def check_sizes(config: Mapping[str, Any], where: str) -> None:
    """Refuse a configuration with numbers that are too large to build anything from.

    Raises:
        CheckpointError: a number is too large; the error names every such number.
    """
    problems = [
        Problem(f"the configuration says {key} = {str(value)[:30]}, which is more than any model has", where, AGAIN)
        for key, value in _numbers(config)
        if abs(value) > (MOST_LAYERS if key.endswith(("layers", "layers_per_block", "num_res_blocks")) else MOST)
    ]
    if problems:
        raise CheckpointError.of(problems)


def _numbers(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield every integer in a configuration with its key."""
    left: list[tuple[str, Any]] = [("", config)]
    while left:
        key, value = left.pop()
        if isinstance(value, Mapping):
            left.extend((str(name), inner) for name, inner in value.items())
        elif isinstance(value, list):
            left.extend((key, inner) for inner in value)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield key, value


@contextmanager
def building(what: str, where: str, config: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Return a context that turns any error from building with a wrong configuration into an error with an explanation.
    The libraries' classes expect a correct configuration, and may raise anything.

    Args:
        what: the thing that is built, such as "a transformer".
        where: the place of the configuration.
        config: the configuration; None if it has not been read yet.

    Raises:
        CheckpointError: nothing can be built from the configuration.
    """
    check_sizes(config or {}, where)
    try:
        yield
    except (LtxError, OSError, ImportError, MemoryError, Warning):
        raise
    except Exception as error:  # diffusers, transformers and torch may raise anything for wrong settings
        if is_out_of_memory(error):
            raise
        said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
        raise CheckpointError(f"the configuration is damaged, or does not describe {what} ({said})", where=where, remedy=AGAIN) from error
