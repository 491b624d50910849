"""How the core uses a condition: in training with a probability, in sampling with a medium of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.errors import DataError, LtxError, PluginError
from ltxcore.protocols import Inputs, Medium
from ltxcore.state import LatentState

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class ConditionUse:
    """A condition in a run file.

    Attributes:
        type: its registered name.
        condition: an object of the registered class.
        probability: how often it applies: per sample, or per micro-batch where it appends.
        sources: the folder of each of its roles.
    """

    type: str
    condition: Any
    probability: float = 1.0
    sources: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def appends(self) -> bool:
        return bool(getattr(self.condition, "appends", False))

    @property
    def roles(self) -> tuple[Any, ...]:
        return getattr(self.condition, "roles", ())

    @property
    def modalities(self) -> frozenset[str]:
        return frozenset(self.condition.modalities)


def applied_state(use: ConditionUse, state: LatentState, inputs: Inputs, where: str) -> LatentState:
    """What the condition makes of the state, checked: it may give target tokens and append others, nothing else.

    Raises:
        LtxError: what the condition says is wrong, with `where` filled in.
        PluginError: the condition breaks its protocol.
    """
    try:
        after = use.condition.apply(state, inputs)
    except LtxError as error:
        raise error.at(where) from error
    fault = _fault(use, state, after)
    if fault:
        raise PluginError(
            f'the condition "{use.type}" {fault}', where=where, remedy="Use only state.given() and state.append() in apply()."
        )
    return after


def _fault(use: ConditionUse, before: LatentState, after: Any) -> str:
    if not isinstance(after, LatentState):
        return f"returns {type(after).__name__} from apply(), not a LatentState"
    if after.clean is not before.clean:
        return "changes the clean tokens of the target"
    if after.grid != before.grid or after.rate is not before.rate or after.modality != before.modality:
        return "changes the grid, rate or modality of the target"
    if after.num_appended < before.num_appended:
        return "removes appended tokens"
    if after.num_appended > before.num_appended and not use.appends:
        return "appends tokens, but its class does not say `appends = True`"
    if bool((after.denoise_mask[:, : before.num_target] > before.denoise_mask[:, : before.num_target]).any()):
        return "takes back tokens that another condition gave"
    return ""


def where_applied(before: LatentState, after: LatentState, applied: Tensor) -> LatentState:
    """`after` for the samples of `applied` `[B]` bool, `before` for the others; both have the same appended tokens."""
    if bool(applied.all()):
        return after
    mask = after.denoise_mask.where(applied.unsqueeze(1), before.denoise_mask)
    return attrs.evolve(before, denoise_mask=mask)


def given_from_medium(use: ConditionUse, state: LatentState, medium: Medium | None, inputs: Inputs, where: str) -> LatentState:
    """A condition in sampling, where the target is not known but the condition's medium is.

    The medium is laid on the target at the condition's anchor (`content`), and the condition applies as in training to a target that is that medium. Tokens that it gives take
    the medium's content.

    Raises:
        DataError: the medium does not fit the target, does not cover what the condition gives, or two conditions give one token different content.

    Source: design section 5, "Where known content comes from".
    """
    content = getattr(use.condition, "content", None)
    if content is None or medium is None:
        return applied_state(use, state, inputs, where)
    placed, covered = _placed(state, medium, content, where)
    before = attrs.evolve(state, clean=placed)
    after = applied_state(use, before, inputs, where)
    target = slice(0, state.num_target)
    newly = after.denoise_mask[:, target] < state.denoise_mask[:, target]
    if bool((newly & ~covered).any()):
        raise DataError(
            f"its medium has {medium.grid} latent frames, fewer than the condition gives",
            where=where,
            remedy="Use a longer medium, or give less of it.",
        )
    twice = newly & (state.denoise_mask[:, target] < 1)
    if bool((twice.unsqueeze(-1) & (placed != state.clean)).any()):
        raise DataError(
            "two conditions give the same tokens different content", where=where, remedy="Let each part of the target be given once."
        )
    return attrs.evolve(after, clean=placed.where(newly.unsqueeze(-1), state.clean))


def _placed(state: LatentState, medium: Medium, content: str, where: str) -> tuple[Tensor, Tensor]:
    """The medium on the target's grid, `[B, T, D]`, and which tokens it covers, `[T]` bool."""
    import torch

    grid, own = state.grid, medium.grid
    if (own.height, own.width) != (grid.height, grid.width):
        raise DataError(
            f"its medium has cells {own.height} x {own.width}, but the target has {grid.height} x {grid.width}",
            where=where,
            remedy="Resize the medium to the target.",
        )
    if content == "whole" and own.frames < grid.frames:
        raise DataError(
            f"its medium has {own.frames} latent frames, but covers a target of {grid.frames}",
            where=where,
            remedy="Use a medium as long as the target.",
        )
    row = grid.height * grid.width
    length = min(own.frames, grid.frames) * row
    placed = torch.zeros_like(state.clean)
    covered = torch.zeros(state.num_target, dtype=torch.bool)
    if content == "end":
        placed[:, -length:] = medium.tokens[:, -length:].to(placed)
        covered[-length:] = True
    else:
        placed[:, :length] = medium.tokens[:, :length].to(placed)
        covered[:length] = True
    return placed, covered
