"""Sequence parallelism (Ulysses): the processes of a group divide the tokens of a micro-batch among them.

Between attentions, a process computes with its own tokens alone. Around an attention, the processes exchange heads for tokens, so that each
has all tokens for its share of the heads; or, if the keys are few, each fetches all keys. All processes of a group have the same input and
return the same velocities, so whatever surrounds the transformer, such as a loss or a sampler, is the same as on one process.

Source: docs/explanation/arithmetic.md#sequence-parallelism
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import attrs
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ltxcore.models.parameter_names import PREFIX, stream_of, within_block

if TYPE_CHECKING:
    from ltxcore.models.transformer import StreamInput, Transformer


@attrs.define(eq=False)
class SequenceGroup:
    """The processes that divide the tokens of a micro-batch among them.

    Attributes:
        rank: the number of this process in the group.
        size: the number of processes in the group.
        group: the group as `torch.distributed` knows it.
    """

    rank: int
    size: int
    group: Any

    def all_to_all(self, parts: Tensor) -> Tensor:
        """Send part i of `[N, ...]` to process i, and return the parts that all processes sent to this one, `[N, ...]`."""
        parts = parts.contiguous()
        found = torch.empty_like(parts)
        dist.all_to_all_single(found, parts, group=self.group)
        return found

    def all_gather(self, x: Tensor) -> Tensor:
        """Return the tensors that all processes pass, `[N, ...]`."""
        x = x.contiguous()
        found = x.new_empty(self.size * x.shape[0], *x.shape[1:])
        dist.all_gather_into_tensor(found, x, group=self.group)
        return found.unflatten(0, (self.size, -1))


class Division(NamedTuple):
    """The division of the tokens of one modality among the processes of a group. Every process has equally many tokens; if they do not
    divide evenly, the last token is repeated as padding, which no other token attends to.

    Attributes:
        tokens: T, the number of tokens of all processes, without padding.
        among: the group.
    """

    tokens: int
    among: SequenceGroup

    @property
    def own(self) -> int:
        """The number of tokens of each process, with padding."""
        return -(-self.tokens // self.among.size)

    def part(self, x: Tensor, dim: int = 1) -> Tensor:
        """Return this process's tokens of a tensor that has all T tokens in dimension `dim`."""
        first = self.among.rank * self.own
        places = torch.arange(first, first + self.own, device=x.device).clamp_max(self.tokens - 1)
        return x.index_select(dim, places)


def own_tokens(given: StreamInput, division: Division) -> StreamInput:
    """Return a stream with this process's tokens alone. Data about pairs of tokens stay whole, since an attention sees all tokens."""
    by_token = given.row_of is None and given.levels.shape[1] > 1
    return given._replace(
        tokens=division.part(given.tokens),
        levels=division.part(given.levels) if by_token else given.levels,
        positions=division.part(given.positions, dim=2),
        marked=None if given.marked is None else division.part(given.marked),
        row_of=None if given.row_of is None else division.part(given.row_of),
    )


def all_tokens(velocity: Tensor, division: Division) -> Tensor:
    """Collect the velocities of all tokens, `[B, T, D]`, from those of each process.

    Every process computes the same loss of all velocities, so the gradient of a process's own velocities is complete there, and nothing is
    exchanged in the backward pass.
    """
    collected: Tensor = _Collected.apply(velocity, division)  # type: ignore[no-untyped-call]
    return collected


def attend_divided(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], query: Tensor, key: Tensor, value: Tensor, divisions: tuple[Division, Division]
) -> Tensor:
    """Attend from this process's queries to the keys of all processes; return the result for this process's queries,
    `[B, heads, own queries, C]`.

    Args:
        attend: computes an attention from queries, keys and values, `[B, heads, tokens, C]`, with any number of heads.
        query: this process's queries, for all heads.
        key: this process's keys, for all heads.
        value: this process's values, for all heads.
        divisions: the divisions of the queries' tokens and of the keys' tokens.

    Source: docs/explanation/arithmetic.md#sequence-parallelism
    """
    of_queries, of_keys = divisions
    if fetches_keys(of_queries.tokens, of_keys.tokens, of_queries.among.size):
        return attend(query, _all_keys(key, of_keys), _all_keys(value, of_keys))
    found = attend(_own_heads(query, of_queries), _own_heads(key, of_keys), _own_heads(value, of_keys))
    return _all_heads(found, of_queries)


def fetches_keys(queries: int, keys: int, size: int) -> bool:
    """Return whether it takes fewer bytes to fetch all keys and values than to exchange heads, for numbers of tokens and of processes.

    Source: docs/explanation/arithmetic.md#sequence-parallelism
    """
    return keys * (size - 1) < queries


def _own_heads(x: Tensor, division: Division) -> Tensor:
    """Exchange own tokens of all heads, `[B, H, own, C]`, for all tokens of this process's heads, `[B, H / N, T, C]`."""
    parts = x.unflatten(1, (division.among.size, -1)).movedim(1, 0)
    return _exchanged(parts, division).movedim(0, 2).flatten(2, 3)[:, :, : division.tokens]


def _all_heads(x: Tensor, division: Division) -> Tensor:
    """Exchange all tokens of this process's heads, `[B, H / N, T, C]`, for own tokens of all heads, `[B, H, own, C]`."""
    padding = division.own * division.among.size - division.tokens
    parts = F.pad(x, (0, 0, 0, padding)).unflatten(2, (division.among.size, -1)).movedim(2, 0)
    return _exchanged(parts, division).movedim(0, 1).flatten(1, 2)


def _all_keys(x: Tensor, division: Division) -> Tensor:
    """Fetch the tokens of all processes, `[B, H, T, C]`; the gradients of a token are summed where the token is."""
    fetched: Tensor = _Fetched.apply(x, division.among)  # type: ignore[no-untyped-call]
    return fetched.movedim(0, 2).flatten(2, 3)[:, :, : division.tokens]


def _exchanged(parts: Tensor, division: Division) -> Tensor:
    """Exchange parts, as `SequenceGroup.all_to_all` does, with gradients."""
    exchanged: Tensor = _Exchanged.apply(parts, division.among)  # type: ignore[no-untyped-call]
    return exchanged


class _Exchanged(torch.autograd.Function):
    """An exchange of equal parts; its backward is the same exchange."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor, among: SequenceGroup) -> Tensor:
        ctx.among = among
        return among.all_to_all(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.among.all_to_all(grad), None


class _Fetched(torch.autograd.Function):
    """The parts of all processes, `[N, ...]`; its backward sums the gradients that all processes have for this process's part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, among: SequenceGroup) -> Tensor:
        ctx.among = among
        return among.all_gather(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.among.all_to_all(grad).float().sum(dim=0).to(grad.dtype), None


class _Collected(torch.autograd.Function):
    """The tokens of all processes without padding; its backward takes this process's part of a gradient that is the same everywhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, division: Division) -> Tensor:
        ctx.division = division
        return division.among.all_gather(x).movedim(0, 1).flatten(1, 2)[:, : division.tokens]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        division = ctx.division
        first = division.among.rank * division.own
        mine = grad[:, first : first + division.own]
        return F.pad(mine, (0, 0, 0, division.own - mine.shape[1])), None  # padding has no gradient


# ---- dropout

_THREAD = threading.local()
"""The divisions of the tokens that the thread computes with. On a GPU, checkpointed blocks are recomputed in another thread."""


@contextmanager
def dropping_by_token(divisions: Mapping[str, Division]) -> Iterator[None]:
    """Return a context in which dropout draws a number for every token of these modalities, whichever process has the token."""
    before = getattr(_THREAD, "divisions", {})
    _THREAD.divisions = divisions
    try:
        yield
    finally:
        _THREAD.divisions = before


class TokenDropout(nn.Dropout):
    """Dropout of the input of a module which sees tokens of one modality. One process with all tokens, and several with a share each,
    drop the same values.

    Attributes:
        modality: the modality whose tokens the module sees.
    """

    def __init__(self, p: float, modality: str) -> None:
        super().__init__(p)
        self.modality = modality

    def forward(self, x: Tensor) -> Tensor:
        division: Division | None = getattr(_THREAD, "divisions", {}).get(self.modality)
        if division is None or not self.training:
            return super().forward(x)
        if x.shape[1] != division.own:
            raise ValueError(f"dropout of {self.modality} was given {x.shape[1]} tokens, but this process has {division.own}")
        drawn = super().forward(x.new_ones(x.shape[0], division.tokens, x.shape[2]))
        return x * division.part(drawn)


def divide_tokens(transformer: Transformer, group: SequenceGroup) -> None:
    """Let a transformer compute with a share of the tokens from now on. All processes of the group then call it with the same input."""
    transformer.sequence_group = group
    for name, module in list(transformer.named_modules()):
        modality = seen_by(name)
        if modality is not None and type(module) is nn.Dropout and module.p > 0:
            parent, _, child = name.rpartition(".")
            setattr(transformer.get_submodule(parent), child, TokenDropout(module.p, modality))


_OF_SOURCE = {"attn2": None, "audio_attn2": None, "audio_to_video_attn": "audio", "video_to_audio_attn": "video"}
"""The origin of an attention's keys and values, if it is not that of its queries: text (None), or another modality."""

_OF_QUERY = {"audio_to_video_attn": "video", "video_to_audio_attn": "audio"}

_TOKENS_IN = frozenset({"proj_in", "proj_out"})


def seen_by(name: str) -> Literal["video", "audio"] | None:
    """Return the modality whose tokens a module sees, given its path in the transformer; None if it sees text or noise levels."""
    segments = within_block(name).split(".")
    first, inner = segments[0], segments[1] if len(segments) > 1 else ""
    seen: str | None
    if not name.startswith("transformer_blocks."):
        seen = stream_of(name) if first.removeprefix(PREFIX["audio"]) in _TOKENS_IN else None
    elif first in _OF_SOURCE and inner in ("to_k", "to_v"):
        seen = _OF_SOURCE[first]
    else:
        seen = _OF_QUERY.get(first, stream_of(name))
    return cast(Literal["video", "audio"] | None, seen)
