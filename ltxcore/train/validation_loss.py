"""The validation loss: measured on held-out clips that are never trained on, at fixed noise levels, with noise that is
always the same.

How often it is measured in a run, and the table of it at the end, are defined here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs
import torch
from rich.table import Table
from torch import Tensor

from ltxcore.config.kept_weights import OF_AVERAGE
from ltxcore.encoded.batches import Shape, shape_of
from ltxcore.flow.draws import CountedDraws
from ltxcore.protocols import Backbone, Draws, Engine, Setting, Strategy
from ltxcore.train.conditioning_swap import CONTEXTS, OTHER, OWN, exchanged, present
from ltxcore.train.feed import Samples, prepared, sent
from ltxcore.train.metrics import Facts, read

__all__ = ["EPOCH", "OTHER", "OWN", "SIGMAS", "ClipLoss", "FixedSigma", "HeldOut", "ratio", "statistics"]

SIGMAS = (0.3, 0.6, 0.9)

EPOCH = -1
"""The epoch of held-out draws, which belong to no pass over the data."""

STANDARD_ERRORS = 1.96
"""The number of standard errors from a mean to either end of its 95 % interval."""


@attrs.frozen
class FixedSigma:
    """A sigma sampler that always returns the same sigma."""

    value: float

    def sample(self, draws: Draws, key: str, tokens: int) -> Tensor:
        return torch.full((draws.size,), self.value)


@attrs.frozen
class ClipLoss:
    """The loss of one modality of a held-out clip.

    Attributes:
        clip: the name of the clip.
        context: the name of the context, one of CONTEXTS.
        modality: the generated modality.
        sigma: the sigma of all generated modalities.
        loss: the loss over the generated tokens.
        applied: for each condition of the run, by its key, whether it was applied.
    """

    clip: str
    context: str
    modality: str
    sigma: float
    loss: float
    applied: Mapping[str, bool]


@attrs.frozen(eq=False)
class HeldOut:
    """The held-out clips of a run, and how they are measured.

    Attributes:
        names: the names of the clips.
        samples: the samples that they are read from.
        strategies: for each sigma, the run's strategy with that sigma for every sample.
        batch_size: the most clips in one forward.
        seed: the seed of their noise.
    """

    names: Sequence[str]
    samples: Samples
    strategies: Mapping[float, Strategy]
    batch_size: int
    seed: int

    @classmethod
    def of(
        cls, build: Callable[[Setting], Strategy], setting: Setting, names: Sequence[str], samples: Samples, batch_size: int, seed: int
    ) -> HeldOut:
        """Set up the measurement for a strategy that `build` makes, whatever its own sigmas are."""
        strategies = {sigma: build(attrs.evolve(setting, sigma_sampler=FixedSigma(sigma))) for sigma in SIGMAS}
        return cls(names, samples, strategies, batch_size, seed)

    def measure(self, engine: Engine, backbone: Backbone, *contexts: str) -> dict[str, float]:
        """Return the numbers of `statistics` in these contexts; by default in the clips' own.

        Args:
            engine: runs the model, with dropout off.
            backbone: connects the text.
            contexts: names of CONTEXTS.

        Source: docs/explanation/arithmetic.md#validation-loss
        """
        return statistics(self.losses(engine, backbone, contexts or (OWN,)))

    def losses(self, engine: Engine, backbone: Backbone, contexts: Sequence[str]) -> list[ClipLoss]:
        """Return the loss of every clip at every sigma. Contexts in which only one part is another clip's are measured
        at the highest sigma alone, on the clips that have that part.

        The noise and the draws for conditions depend on the clip alone, so that different models and different contexts
        are measured alike. In the contexts of another clip, clips with a shape that no other clip has are left out.
        """
        found: list[ClipLoss] = []
        groups = list(self._groups())
        with engine.evaluating():
            for group, counts in _dealt(groups, engine.rank, engine.world_size):
                for sigma, strategy in self.strategies.items():
                    some = [name for name in contexts if name in (OWN, OTHER) or sigma == max(self.strategies)]
                    rows = self._of_group(engine, backbone, strategy, group, sigma, some)
                    found.extend(rows if counts else [])
        return [row for part in engine.gather(found) for row in part]

    def _of_group(
        self, engine: Engine, backbone: Backbone, strategy: Strategy, group: Sequence[str], sigma: float, contexts: Sequence[str]
    ) -> list[ClipLoss]:
        draws = CountedDraws(self.seed, EPOCH, tuple(group), ",".join(group))
        optional = strategy.wanted(draws)
        own = self.samples.load(group, optional)
        inputs = prepared(strategy, backbone, own, draws, engine.device)
        found: list[ClipLoss] = []
        for context in contexts:
            parts = CONTEXTS[context]
            kept = present(inputs, parts) & (len(group) > 1) if parts else torch.ones(len(group), dtype=torch.bool)
            if not any(engine.gather(bool(kept.any()))):  # all processes run the same forwards
                continue
            seen = inputs
            if parts:
                other = self.samples.load([*group[1:], group[0]], optional)
                seen = exchanged(strategy, backbone, own, other, inputs, draws, parts, engine.device)
            there = sent(seen, engine.device)
            losses = strategy.loss(engine.forward(there), there)
            (values,) = read([losses])
            found.extend(row for row in _rows(group, context, sigma, values, Facts.of(seen)) if bool(kept[group.index(row.clip)]))
        return found

    def _groups(self) -> Iterator[list[str]]:
        """Yield clips of one shape, `batch_size` at a time; a single clip that is left over joins the group before it,
        so that it can be given another clip's context.
        """
        shapes: dict[Shape, list[str]] = {}
        for name in self.names:
            shapes.setdefault(shape_of(self.samples.manifest, name), []).append(name)
        for names in shapes.values():
            groups = [names[i : i + self.batch_size] for i in range(0, len(names), self.batch_size)]
            if len(groups) > 1 and len(groups[-1]) == 1:
                groups[-2].extend(groups.pop())
            yield from groups


def _dealt(groups: Sequence[list[str]], rank: int, world_size: int) -> Iterator[tuple[list[str], bool]]:
    """Yield this process's groups, and whether each counts. All processes run equally many, so that none waits for
    another; the last group is run again if they do not divide evenly.
    """
    for start in range(0, len(groups), world_size):
        yield groups[min(start + rank, len(groups) - 1)], start + rank < len(groups)


def _rows(group: Sequence[str], context: str, sigma: float, losses: Mapping[str, Sequence[float]], facts: Facts) -> Iterator[ClipLoss]:
    """Yield the rows of the clips that have a token that counts."""
    for name, per_sample in losses.items():
        for index, (clip, loss) in enumerate(zip(group, per_sample, strict=True)):
            if facts.counted[name][index]:
                yield ClipLoss(clip, context, name, sigma, loss, {key: bool(each[index]) for key, each in facts.applied.items()})


def statistics(rows: Iterable[ClipLoss]) -> dict[str, float]:
    """Return means over clips by name, each with half the width of its 95 % interval if there are two clips or more.

    - `held_out/CONTEXT/clips`: the number of clips measured;
    - `held_out/CONTEXT/MODALITY/sigma_S`: the loss; also followed by a condition's key and `applied` or `not_applied`;
    - `held_out_ratio/CONTEXT/MODALITY/sigma_S`, for the context of another clip: the mean loss of the same clips in their own
      context, divided by that in this one. The lower it is, the more the model uses its conditioning;
    - `half_width_95/` followed by any of these names: half the width of the interval.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    clips: dict[str, set[str]] = {}
    own: dict[tuple[str, str, float], float] = {}
    for row in rows:
        key = f"{row.context}/{row.modality}/sigma_{row.sigma:.2f}"
        clips.setdefault(f"held_out/{row.context}/clips", set()).add(row.clip)
        applied = [f"{key}/{condition}/{'applied' if applied else 'not_applied'}" for condition, applied in row.applied.items()]
        for name in (key, *applied):
            pairs.setdefault(f"held_out/{name}", []).append((row.loss, 1.0))
        identity = row.clip, row.modality, row.sigma
        if row.context == OWN:
            own[identity] = row.loss
        elif identity in own:
            pairs.setdefault(f"held_out_ratio/{key}", []).append((own[identity], row.loss))
    found = {key: float(len(names)) for key, names in clips.items()}
    for key, each in pairs.items():
        if not any(below for _, below in each):
            continue
        found[key], half_width = ratio(each)
        if half_width is not None:
            found[f"half_width_95/{key}"] = half_width
    return found


def of_average(measured: Mapping[str, float]) -> dict[str, float]:
    """Return measurements under the names of those with the averaged weights."""
    return {f"{OF_AVERAGE}{name}": value for name, value in measured.items()}


def ratio(pairs: Sequence[tuple[float, float]]) -> tuple[float, float | None]:
    """Return the ratio of two means over the same clips, and half the width of its 95 % interval; None in its place for
    a single clip.

    Source: docs/explanation/arithmetic.md#half-width-of-an-interval
    """
    count, below = len(pairs), math.fsum(b for _, b in pairs)
    value = math.fsum(a for a, _ in pairs) / below
    if count < 2:
        return value, None
    spread = math.fsum((a - value * b) ** 2 for a, b in pairs) / (count - 1)
    return value, STANDARD_ERRORS * math.sqrt(spread / count) / (below / count)


def held_out_interval(interval: int, total: int) -> int:
    """Return the number of steps between measurements of the validation loss: a multiple of the validation interval,
    and at least a tenth of the run.

    Source: docs/explanation/arithmetic.md#steps-between-validation-losses
    """
    return interval * max(1, math.ceil(total / (10 * interval)))


def held_out_table(before: Mapping[str, float], after: Mapping[str, float]) -> Table:
    """Return a table of the validation loss at the highest sigma: before training; after it; with the averaged weights, if
    there are any; and with the context of another clip.
    """
    sigma = f"sigma_{max(SIGMAS):.2f}"
    clips = int(before.get(f"held_out/{OWN}/clips", 0))
    table = Table(title=f"Validation loss of generated tokens at sigma {max(SIGMAS)}, {clips} held-out clips", title_justify="left")
    prefixes = {f"held_out/{OWN}/": "after", f"{OF_AVERAGE}held_out/{OWN}/": "after, averaged weights"}
    shown = {prefix: column for prefix, column in prefixes.items() if f"{prefix}clips" in after}
    for column in ("", "before", *shown.values(), "after, with another clip's conditioning"):
        table.add_column(column, justify="left" if not column else "right")
    for name in ("video", "audio"):
        key = f"{name}/{sigma}"
        if f"held_out/{OWN}/{key}" in before:
            values = before[f"held_out/{OWN}/{key}"], *(after[prefix + key] for prefix in shown), after.get(f"held_out/{OTHER}/{key}")
            table.add_row(name, *("-" if value is None else f"{value:.4f}" for value in values))
    return table
