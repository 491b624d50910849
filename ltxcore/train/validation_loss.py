"""Measure the validation loss on held-out clips, which are never trained on, at fixed noise levels and always with the
same noise.

The interval between measurements is defined here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import attrs
import torch
from torch import Tensor

from ltxcore.choices import every_list
from ltxcore.config.kept_weights import OF_AVERAGE
from ltxcore.drawn_conditions import AtEnd
from ltxcore.encoded.batches import Shape, SizeOf, shape_of
from ltxcore.errors import DataError
from ltxcore.flow.draws import CountedDraws
from ltxcore.objective_types import Pass
from ltxcore.objectives import OWN_BATCH, ObjectiveUse, labelled
from ltxcore.protocols import Backbone, Draws, Engine, ModelInput, Setting, Strategy, Text
from ltxcore.runs.passes import room_of
from ltxcore.runs.run_plan import RunPlan
from ltxcore.train.conditioning_swap import CONTEXTS, OTHER, OWN, exchanged, present
from ltxcore.train.dealing import OWN as OWN_DATA
from ltxcore.train.dealing import Data, in_turns, of_each_share
from ltxcore.train.feed import Samples, prepared, sent
from ltxcore.train.learning import Given, answered, predicted_in
from ltxcore.train.metrics import Facts, read
from ltxcore.train.prompts import Prompts

__all__ = ["EPOCH", "OTHER", "OWN", "SIGMAS", "ClipLoss", "FixedSigma", "HeldOut", "ratio", "statistics"]

SIGMAS = (0.3, 0.6, 0.9)

EPOCH = -1
"""The epoch number for the draws of held-out clips, which belong to no pass over the data."""

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
        context: the name of the context, one of CONTEXTS; or the name of an objective, for the objective's loss in the clip's own context.
        modality: the generated modality.
        sigma: the sigma of all generated modalities.
        loss: the loss over the generated tokens.
        parts: the names of the further means that include this loss: for each condition of the run, whether it was
            applied, and its drawn values.
        end: if the clip was measured with a drawn value at one end of its range, or with one list of a choice, the name of the mean
            for that end or list, which is then the only mean that includes this loss.
    """

    clip: str
    context: str
    modality: str
    sigma: float
    loss: float
    parts: tuple[str, ...] = ()
    end: str = ""


@attrs.frozen(eq=False)
class HeldOut:
    """The held-out clips of a run, and the settings for measuring their loss.

    Attributes:
        names: the names of the clips.
        samples: the samples that the clips are read from.
        strategies: for each sigma, the run's strategy with that sigma for every sample.
        batch_size: the maximum number of clips in one forward pass, or a function that returns it for a shape.
        seed: the seed of the noise.
        uses: the objectives whose losses are measured on these clips too, by their names in metrics.
        texts: the text features of the prompts that these objectives need.
        further: the held-out clips of the objectives that have a dataset of their own, by their names in metrics.
    """

    names: Sequence[str]
    samples: Samples
    strategies: Mapping[float, Strategy]
    batch_size: int | SizeOf
    seed: int
    uses: Mapping[str, ObjectiveUse] = attrs.field(factory=dict)
    texts: Mapping[str, Text] = attrs.field(factory=dict)
    further: Mapping[str, HeldOut] = attrs.field(factory=dict)

    @classmethod
    def of(
        cls,
        build: Callable[[Setting], Strategy],
        setting: Setting,
        names: Sequence[str],
        samples: Samples,
        batch_size: int | SizeOf,
        seed: int,
    ) -> HeldOut:
        """Set up the measurement with the strategy that `build` makes, at fixed sigmas instead of the strategy's own."""
        strategies = {sigma: build(attrs.evolve(setting, sigma_sampler=FixedSigma(sigma))) for sigma in SIGMAS}
        return cls(names, samples, strategies, batch_size, seed)

    def measure(self, engine: Engine, backbone: Backbone, *contexts: str) -> dict[str, float]:
        """Measure the losses in these contexts, by default in the clips' own, and return their `statistics`.

        Args:
            engine: runs the model, with dropout off.
            backbone: connects the text.
            contexts: names from CONTEXTS.

        Source: docs/explanation/arithmetic.md#validation-loss
        """
        return statistics(self.losses(engine, backbone, contexts or (OWN,)))

    def losses(self, engine: Engine, backbone: Backbone, contexts: Sequence[str]) -> list[ClipLoss]:
        """Return the loss of every clip at every sigma, and the losses of the objectives. Contexts in which only one part
        comes from another clip are measured at the highest sigma alone, on the clips that have this part.

        The noise and the draws for conditions depend on the clip alone, so that all models and contexts are measured
        alike. A clip with a shape that no other clip has is left out of the contexts of another clip. In their own
        context, clips are also measured at both ends of every range of drawn values, and with each list of every choice, at the
        highest sigma.
        """
        found: list[ClipLoss] = []
        with engine.evaluating():
            for held_out, there in ((self, contexts), *((each, ()) for each in self.further.values())):
                prompts = Prompts(self.texts, backbone)
                for group, counts in in_turns(list(held_out._groups()), engine.data_parallel_rank, engine.data_parallel_size):
                    for sigma, strategy in self.strategies.items():
                        some = [name for name in there if name in (OWN, OTHER) or sigma == max(self.strategies)]
                        rows = held_out._of_group(engine, prompts, strategy, group, sigma, some)
                        if OWN in some and sigma == max(self.strategies):
                            rows += held_out._at_ends(engine, backbone, strategy, group, sigma)
                        found.extend(rows if counts else [])
        return [row for part in of_each_share(engine, engine.gather(found)) for row in part]

    def _of_group(
        self, engine: Engine, prompts: Prompts, strategy: Strategy, group: Sequence[str], sigma: float, contexts: Sequence[str]
    ) -> list[ClipLoss]:
        backbone = prompts.backbone
        draws = CountedDraws(self.seed, EPOCH, tuple(group), ",".join(group))
        optional = strategy.wanted(draws)
        own, sets = self.samples.load(group, optional), self.samples.sets(group)
        inputs = prepared(strategy, backbone, own, draws, engine.device)
        found: list[ClipLoss] = []
        answers = Answers(engine, prompts, strategy, Given(own, sent(inputs, engine.device), 1.0))
        for context in contexts:
            parts = CONTEXTS[context]
            kept = present(inputs, parts) & (len(group) > 1) if parts else torch.ones(len(group), dtype=torch.bool)
            if not any(engine.gather(bool(kept.any()))):  # all processes run the same forward passes
                continue
            seen = inputs
            if parts:
                other = self.samples.load([*group[1:], group[0]], optional)
                seen = exchanged(strategy, backbone, own, other, inputs, draws, parts, engine.device)
            there = sent(seen, engine.device)
            losses = strategy.loss(engine.forward(there), there) if parts else answers.own
            (values,) = read([losses])
            self._refuse_damaged(group, values)
            found.extend(row for row in _rows(group, context, sigma, values, Facts.of(seen, sets)) if bool(kept[group.index(row.clip)]))
        for label, use in self.uses.items():
            losses = answers.of(label, use)
            if losses is not answers.own or use.batch != OWN_BATCH:  # else it is measured already
                (values,) = read([losses])
                found.extend(_rows(group, label, sigma, values, Facts.of(inputs, sets)))
        return found

    def _refuse_damaged(self, group: Sequence[str], losses: Mapping[str, Sequence[float]]) -> None:
        """Check the files of clips whose losses are not finite, because values are not checked each time they are read.

        Raises:
            DataError: files are not as they were written.
        """
        if all(math.isfinite(each) for own in losses.values() for each in own):
            return
        problems = self.samples.damaged(group)
        if problems:
            raise DataError.of(problems)

    def _at_ends(self, engine: Engine, backbone: Backbone, strategy: Strategy, group: Sequence[str], sigma: float) -> list[ClipLoss]:
        found: list[ClipLoss] = []
        ends = [(f"{key}_{end}", key, at) for key in getattr(strategy, "ranges", ()) for end, at in (("min", 0.0), ("max", 1.0))]
        for name, key, number in [*ends, *every_list(getattr(strategy, "choices", ()))]:
            draws = AtEnd(CountedDraws(self.seed, EPOCH, tuple(group), ",".join(group)), key, number)
            own = self.samples.load(group, strategy.wanted(draws))
            inputs = prepared(strategy, backbone, own, draws, engine.device)
            there = sent(inputs, engine.device)
            (values,) = read([strategy.loss(engine.forward(there), there)])
            facts = Facts.of(inputs)
            # A choice, unlike a condition, concerns every clip.
            applied = dict(zip(group, facts.applied.get(key.rpartition("/")[0], [True] * len(group)), strict=True))
            rows = _rows(group, OWN, sigma, values, facts)
            found += [attrs.evolve(row, parts=(), end=name) for row in rows if applied[row.clip]]
        return found

    def _groups(self) -> Iterator[list[str]]:
        """Yield groups of at most `batch_size` clips with the same shape. A single clip that is left over joins the previous
        group, so that it can be given another clip's context.
        """
        shapes: dict[Shape, list[str]] = {}
        for name in self.names:
            shapes.setdefault(shape_of(self.samples.manifest, name), []).append(name)
        for shape, names in shapes.items():
            size = self.batch_size if isinstance(self.batch_size, int) else max(1, self.batch_size(shape))
            groups = [names[i : i + size] for i in range(0, len(names), size)]
            if len(groups) > 1 and len(groups[-1]) == 1:
                groups[-2].extend(groups.pop())
            yield from groups


@attrs.define(eq=False)
class Answers:
    """The predictions of a model for clips in the passes of objectives. Passes that are alike are run only once, since nothing is drawn.

    Attributes:
        engine: runs the model, with dropout off.
        prompts: the texts that passes have in place of captions.
        strategy: the strategy, which has a loss of its own.
        given: the clips.
    """

    engine: Engine
    prompts: Prompts
    strategy: Strategy
    given: Given
    _known: dict[Pass, Mapping[str, Tensor]] = attrs.field(factory=dict, init=False)
    _own: Mapping[str, Tensor] | None = attrs.field(default=None, init=False)

    @property
    def own(self) -> Mapping[str, Tensor]:
        """The strategy's loss of the unchanged clips."""
        if self._own is None:
            self._own = self.strategy.loss(self._predicted(Pass(""), self.given.inputs), self.given.inputs)
        return self._own

    def of(self, label: str, use: ObjectiveUse) -> Mapping[str, Tensor]:
        """Return an objective's loss of the clips, without the objective's weight; `own` itself if this loss is the strategy's own."""
        return answered(label, use, self.prompts, self.given, self._predicted, self._own_loss)[1]

    def _predicted(self, each: Pass, inputs: Mapping[str, ModelInput]) -> Mapping[str, Tensor]:
        alike = attrs.evolve(each, name="", batch=OWN_BATCH, gradient=False)
        if alike not in self._known:
            self._known[alike] = predicted_in(self.engine, self.prompts, alike, inputs)
        return self._known[alike]

    def _own_loss(self, predicted: Mapping[str, Tensor], inputs: Mapping[str, ModelInput]) -> Mapping[str, Tensor]:
        return self.own if predicted is self._known.get(Pass("", gradient=False)) else self.strategy.loss(predicted, inputs)


def _rows(group: Sequence[str], context: str, sigma: float, losses: Mapping[str, Sequence[float]], facts: Facts) -> Iterator[ClipLoss]:
    """Yield the losses of the clips in which at least one token counts."""
    for name, per_sample in losses.items():
        for index, (clip, loss) in enumerate(zip(group, per_sample, strict=True)):
            if facts.counted[name][index]:
                yield ClipLoss(clip, context, name, sigma, loss, tuple(facts.parts(index)))


def statistics(rows: Iterable[ClipLoss]) -> dict[str, float]:
    """Return means over clips by name, with half the width of the 95 % interval of each mean over two or more clips.

    - `held_out/CONTEXT/clips`: the number of clips measured. For an objective, its name takes the place of CONTEXT.
    - `held_out/CONTEXT/MODALITY/sigma_S`: the loss. With one of these endings, it is the loss of the clips that the
      ending describes:
        - a condition's key and `applied` or `not_applied`: the clips to which the condition was or was not applied;
        - a drawn key and a value or a bin of values, as in `/video.cond0.prefix/temporal_boundary_3`: the clips that drew it;
        - a drawn key and `min` or `max`: all clips, with the value at that end of the range;
        - a choice and a list, as in `/video.choice0/one_of_1_suffix`: the clips that drew the list;
        - a choice and `every` with a list, as in `/video.choice0/every_1_suffix`: all clips, with that list.
    - `held_out_ratio/CONTEXT/MODALITY/sigma_S`, for the context of another clip: the mean loss of the same clips in
      their own context, divided by their mean loss in this context. The lower this ratio, the more the model uses its
      conditioning.
    - `half_width_95/` followed by any of these names: half the width of the interval.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    clips: dict[str, set[str]] = {}
    own: dict[tuple[str, str, float], float] = {}
    for row in rows:
        key = f"{row.context}/{row.modality}/sigma_{row.sigma:.2f}"
        if row.end:
            pairs.setdefault(f"held_out/{key}/{row.end}", []).append((row.loss, 1.0))
            continue
        clips.setdefault(f"held_out/{row.context}/clips", set()).add(row.clip)
        for name in (key, *(f"{key}/{part}" for part in row.parts)):
            pairs.setdefault(f"held_out/{name}", []).append((row.loss, 1.0))
        identity = row.clip, row.modality, row.sigma
        if row.context == OWN:
            own[identity] = row.loss
        elif row.context in CONTEXTS and identity in own:
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
    """Return measurements under the names that they have for the averaged weights."""
    return {f"{OF_AVERAGE}{name}": value for name, value in measured.items()}


def ratio(pairs: Sequence[tuple[float, float]]) -> tuple[float, float | None]:
    """Return the ratio of two means over the same clips, and half the width of its 95 % interval; for a single clip,
    the width is None.

    Source: docs/explanation/arithmetic.md#half-width-of-an-interval
    """
    count, below = len(pairs), math.fsum(b for _, b in pairs)
    value = math.fsum(a for a, _ in pairs) / below
    if count < 2:
        return value, None
    spread = math.fsum((a - value * b) ** 2 for a, b in pairs) / (count - 1)
    return value, STANDARD_ERRORS * math.sqrt(spread / count) / (below / count)


def held_out_interval(interval: int, total: int) -> int:
    """Return the number of steps between measurements of the validation loss. It is a multiple of the validation
    interval, and at least a tenth of the run.

    Source: docs/explanation/arithmetic.md#steps-between-validation-losses
    """
    return interval * max(1, math.ceil(total / (10 * interval)))


def held_out_of(plan: RunPlan, data: Mapping[str, Data], samples: Samples, names: Sequence[str]) -> HeldOut | None:
    """Return the measurement of a run's validation losses; None if none of its clips are held out.

    Args:
        plan: the run.
        data: the run's data, and those of the objectives that have a dataset, by their names in metrics.
        samples: the samples that the held-out clips are read from.
        names: the held-out clips.
    """
    if not names:
        return None
    found, config = plan.outline, plan.config
    size = room_of(config, found.strategy.sources())
    of = partial(HeldOut.of, found.build, found.setting, batch_size=size, seed=config.seed)
    uses = labelled(config.objectives)
    further = {
        label: attrs.evolve(of(names=each.split.held_out, samples=data[label].samples), uses={label: uses[label]})
        for label, each in plan.datasets.items()
    }
    own = {label: use for label, use in uses.items() if label not in further}
    return attrs.evolve(of(names=names, samples=samples), uses=own, texts=data[OWN_DATA].samples.texts, further=further)
