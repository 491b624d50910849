"""Choose the settings of a run file for the memory of a GPU: the fastest with which the run fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.config.load import LoadedRun, load_run
from ltxcore.config.render import value_text
from ltxcore.config.tables import is_key
from ltxcore.errors import ConfigError
from ltxcore.memory import gib

if TYPE_CHECKING:
    from ltxcore.planner.advice import Change
    from ltxcore.planner.estimate import Need

FASTEST = ("optimization.enable_gradient_checkpointing=false",)
"""The settings of the fastest run, as far as they differ from those of a new run file."""


@attrs.frozen
class Fitted:
    """The settings with which a run fits a GPU.

    Attributes:
        memory: the memory of the GPU in bytes.
        settings: the keys of the run file and their values in TOML notation, by table.
        need: the memory that the run needs with these settings.
        described: the largest micro-batch, in words.
    """

    memory: int
    settings: Mapping[str, Mapping[str, str]]
    need: Need
    described: str

    @property
    def on_gpu(self) -> str:
        """The memory that the run needs on each GPU, as text."""
        return f"{gib(self.need.with_margin)} with the margin, of {gib(self.memory)}"

    @property
    def on_host(self) -> str:
        """The CPU memory that the run needs, as text."""
        return f"about {gib(self.need.host)} of CPU memory"


def fitted_to(path: Path, memory: int, processes: int, model: str | None, tell: Callable[[str], None]) -> Fitted:
    """Choose the fastest settings with which a run fits and learns the same; if there are none, the fastest of the others.

    Args:
        path: the run file; its data and the files of its model need not exist.
        memory: the memory of each GPU in bytes.
        processes: the number of GPUs.
        model: the name of the released model, as in `ltx plan --model`; None for the model that the run file names.
        tell: a function that is called with a message before work that takes seconds.

    Raises:
        ConfigError: no settings are enough; the error names what else would help.
        LtxError: the run file has mistakes.
    """
    from ltxcore.planner.advice import Change
    from ltxcore.planner.costs import cost

    loaded = load_run(path, FASTEST, elsewhere=("data", "model", "objectives", "validation"))
    found = cost(loaded, processes, memory, model=model, tell=tell)
    tiled = (Change("preprocessing.vae_tiling = true", {"preprocessing": {"vae_tiling": True}}),) if found.encoding_tiled else ()
    if found.fits:
        return Fitted(memory, _settings(loaded, tiled), found.need, found.shapes.described)
    own = (remedy for remedy in found.remedies if not remedy.is_other)
    best = min(own, key=lambda remedy: (remedy.is_learned_otherwise, remedy.seconds), default=None)
    if best is None:
        others = "; or ".join(" and ".join(remedy.said) for remedy in found.remedies)
        raise ConfigError(
            f"no settings make this run fit a GPU of {gib(memory)}",
            where="--memory",
            remedy=f"It would fit with {others}." if others else "It needs a GPU with more memory.",
        )
    return Fitted(memory, _settings(loaded, (*best.changes, *tiled)), best.need, found.shapes.described)


def _settings(loaded: LoadedRun, changes: tuple[Change, ...]) -> dict[str, dict[str, str]]:
    """Return the keys that differ from those of a new run file, with their values in TOML notation, by table."""
    settings: dict[str, dict[str, str]] = {"optimization": {"enable_gradient_checkpointing": "false"}}
    for change in changes:
        for name, values in change.tables.items():
            table: Any = getattr(loaded.config, name)
            fields = attrs.fields_dict(type(table))
            for key, value in values.items():
                if is_key(fields[key]) and value not in (getattr(table, key), {}):
                    settings.setdefault(name, {})[key] = value_text(value)
    return settings
