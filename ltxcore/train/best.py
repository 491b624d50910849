"""Keep track of the best validation loss of a run, and decide whether the run has stopped improving."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from ltxcore.config.kept_weights import OF_AVERAGE, goes_by_average
from ltxcore.errors import ConfigError, listed
from ltxcore.train.conditioning_swap import CONTEXTS, OWN

HELD_OUT = "held_out/"
"""The prefix of validation losses, which is followed by a context or by the name of an objective."""


@attrs.define
class Best:
    """The best measurement of the validation loss so far.

    Attributes:
        by: the part of the validation loss that counts: a modality, `MODALITY/sigma_S`, or what follows `held_out/own_context/` in the name
            of any metric; "" for the mean over modalities and sigmas. The prefix "NAME/" selects the loss of an objective; the prefix
            "ema/", before any other prefix, selects the loss of the averaged weights.
        stop_after: the number of measurements without improvement after which the run ends; None if it never ends early.
        value: the lowest loss; infinity before the first measurement.
        step: the optimizer step after which the lowest loss was measured.
        since: the number of measurements since the lowest loss.
    """

    by: str = ""
    stop_after: int | None = None
    value: float = math.inf
    step: int = 0
    since: int = 0

    def measured(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Record a measurement, and return whether it is the best so far.

        A loss that is not a number is never the best.

        Raises:
            ConfigError: `by` names no metric that was measured.
        """
        value = self.loss(metrics)
        is_best = value < self.value
        if is_best:
            self.value, self.step, self.since = value, step, 0
        else:
            self.since += 1
        return is_best

    def loss(self, metrics: Mapping[str, float]) -> float:
        """Return the mean of the counted metrics.

        Raises:
            ConfigError: `by` names no metric that was measured.
        """
        kind = OF_AVERAGE if self.is_of_average else ""
        by = f"{self.by}/".removeprefix(kind).removesuffix("/")
        measured = {name.removeprefix(kind).split("/")[1] for name in metrics if name.startswith(f"{kind}{HELD_OUT}") and "/sigma_" in name}
        objective, _, rest = by.partition("/")
        if objective in (others := measured - CONTEXTS.keys()):
            prefix, by = f"{kind}{HELD_OUT}{objective}/", rest
        else:
            prefix = f"{kind}{HELD_OUT}{OWN}/"
        own = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix) and "/sigma_" in name}
        whole = {name: value for name, value in own.items() if name.count("/") == 1}
        found = [own[by]] if by in own else [value for name, value in whole.items() if name.startswith(f"{by}/" if by else "")]
        if not found:
            names = {*own, *(name.partition("/")[0] for name in own), *others}
            parts = sorted(names, key=lambda name: (name.count("/"), name))
            raise ConfigError(
                f'"{self.by}" is not part of the validation loss',
                where="checkpoints.best_by",
                remedy=f"Name one of {listed(kind + name for name in parts)}, or leave the key out.",
            )
        return math.fsum(found) / len(found)

    @property
    def is_of_average(self) -> bool:
        """Whether the loss of the averaged weights counts."""
        return goes_by_average(self.by)

    @property
    def is_over(self) -> bool:
        """Whether the loss has not improved for so long that the run ends."""
        return self.stop_after is not None and self.since >= self.stop_after

    @property
    def reason(self) -> str:
        """Why the run ended early."""
        times = "measurement" if self.since == 1 else "measurements"
        return f"the validation loss has not fallen for {self.since} {times}; it was lowest, {self.value:.4f}, after step {self.step}"

    def forget(self) -> None:
        """Forget the lowest loss, because the weights that had it are gone; the next measurement becomes the best."""
        self.value = math.inf

    def state(self) -> dict[str, Any]:
        """Return the values that a later process needs to continue, in a form that JSON can store; JSON has no
        infinity.
        """
        return {"by": self.by, "value": self.value if math.isfinite(self.value) else None, "step": self.step, "since": self.since}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the values that `state` returned, unless they belong to a different loss than the one that counts now."""
        if state.get("by", self.by) != self.by:
            return
        value = state["value"]
        self.value, self.step, self.since = math.inf if value is None else value, state["step"], state["since"]
