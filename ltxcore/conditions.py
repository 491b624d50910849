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


def appends(condition: Any) -> bool:
    """Whether a condition, or a class of conditions, appends tokens."""
    return bool(getattr(condition, "appends", False))


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
        return appends(self.condition)

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
        Exception: whatever else it raises is a mistake in it, and keeps its traceback; a note says which condition it was, and where.
    """
    try:
        after = use.condition.apply(state, inputs)
    except LtxError as error:
        raise error.at(where) from error
    except Exception as error:
        error.add_note(f'This is a mistake in the condition "{use.type}", which was applied at {where}.')
        raise
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
    return _fault_in_numbers(before, after)


def _fault_in_numbers(before: LatentState, after: LatentState) -> str:
    kept, target = before.num_target + before.num_appended, before.num_target
    if after.positions is not before.positions and not after.positions[:, :, :kept].equal(before.positions):
        return "moves tokens that were there before it"
    if after.appended is not before.appended and not after.appended[:, : before.num_appended].equal(before.appended):
        return "changes tokens that another condition appended"
    old, new = before.denoise_mask[:, :target], after.denoise_mask[:, :target]
    if bool((new > old).any()):
        return "takes back tokens that another condition gave"
    if not bool((new >= 0).all()):  # written so that NaN fails too
        return "sets the denoise mask below 0"
    if bool(after.denoise_mask[:, target:].any()):
        return "appends tokens that are not given"
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
        DataError: the medium is missing, does not fit the target or does not cover what the condition gives, or two conditions give one token different content.
        PluginError: the condition gives tokens, but has no `content`.

    Source: design section 5, "Where known content comes from".
    """
    content = getattr(use.condition, "content", None)
    target = slice(0, state.num_target)
    placed, covered = _placed(state, medium, content, where) if content and medium else (state.clean, None)
    # The mask starts anew, so that what this condition gives is seen also where another one gave already.
    after = applied_state(use, attrs.evolve(state, clean=placed, denoise_mask=_nothing_given(state)), inputs, where)
    gives = after.denoise_mask[:, target] < 1
    if covered is None and bool(gives.any()):
        raise _unknown(use, state, content, where)
    if covered is not None and medium is not None and bool((gives & ~covered).any()):
        raise DataError(
            f"its medium of length {medium.grid.frames} (latent frames) does not cover all that the condition gives",
            where=where,
            remedy="Use a longer medium, or give less of it.",
        )
    twice = gives & (state.denoise_mask[:, target] < 1)
    if bool((twice.unsqueeze(-1) & (placed != state.clean)).any()):
        raise DataError(
            "two conditions give the same tokens different content", where=where, remedy="Let each part of the target be given once."
        )
    mask = after.denoise_mask.clone()
    mask[:, target] *= state.denoise_mask[:, target]
    return attrs.evolve(after, clean=placed.where(gives.unsqueeze(-1), state.clean), denoise_mask=mask)


def _nothing_given(state: LatentState) -> Tensor:
    mask = state.denoise_mask.clone()
    mask[:, : state.num_target] = 1.0
    return mask


def _unknown(use: ConditionUse, state: LatentState, content: str | None, where: str) -> LtxError:
    """Tokens that nothing knows would be given as zeros."""
    if content is None:
        return PluginError(
            f'the condition "{use.type}" gives tokens of the target, but its class names no content',
            where=where,
            remedy='Say where its medium lies on the target when sampling: content = "start", "end" or "whole".',
        )
    return DataError(
        f'the condition "{use.type}" gives tokens of the {state.modality}, but has no medium to take them from',
        where=where,
        remedy=f"Name the {state.modality} file that it gives.",
    )


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
            f"its medium of length {own.frames} does not cover the target of length {grid.frames} (latent frames)",
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
