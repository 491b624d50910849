"""The held-out loss: on clips that are never trained on, at fixed noise levels, with noise that is always the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs
import torch
from torch import Tensor

from ltxcore.data.batches import Shape, shape_of
from ltxcore.flow.draws import CountedDraws
from ltxcore.flow.noise import add_noise
from ltxcore.protocols import MODALITIES, Backbone, Batch, Draws, Engine, ModelInput, Setting, Strategy
from ltxcore.train.feed import Samples, prepared
from ltxcore.train.metrics import Tally, conditions

SIGMAS = (0.3, 0.6, 0.9)

EPOCH = -1
"""Held-out draws belong to no pass over the data."""

OWN, OTHER = "own_context", "other_context"
"""With what belongs to the clip, and with what belongs to another one: a model that listens to its context is worse with the other."""


@attrs.frozen
class FixedSigma:
    """A sigma sampler that draws nothing."""

    value: float

    def sample(self, draws: Draws, key: str, tokens: int) -> Tensor:
        return torch.full((draws.size,), self.value)


@attrs.frozen(eq=False)
class HeldOut:
    """The held-out clips of a run, and how they are measured.

    Attributes:
        names: of the clips.
        samples: where they are read from.
        strategies: the run's strategy for each sigma, with that sigma for every sample.
        batch_size: the most clips in one forward.
        seed: of their noise.
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
        """For a strategy that `build` makes, whatever its own sigmas."""
        strategies = {sigma: build(attrs.evolve(setting, sigma_sampler=FixedSigma(sigma))) for sigma in SIGMAS}
        return cls(names, samples, strategies, batch_size, seed)

    def measure(self, engine: Engine, backbone: Backbone, context: str = OWN) -> dict[str, float]:
        """Mean losses by name: `held_out/CONTEXT/MODALITY/sigma_S`, and that with a condition's key and `applied` or `not_applied`.

        Noise and what is drawn for conditions depend on the clip alone, so that two models, and two contexts, are asked the same. Clips that no
        other has the shape of are left out where the context is another's: `held_out/CONTEXT/clips` is how many were measured.

        Args:
            engine: runs the model; dropout is off meanwhile.
            backbone: for the text.
            context: OWN or OTHER.

        Source: design section 7, "Held-out".
        """
        tally = Tally()
        groups = [group for group in self._groups() if context == OWN or len(group) > 1]
        with engine.evaluating():
            for group, counts in _dealt(groups, engine.rank, engine.world_size):
                draws = CountedDraws(self.seed, EPOCH, tuple(group), ",".join(group))
                for sigma, strategy in self.strategies.items():
                    optional = strategy.wanted(draws)
                    own = self.samples.load(group, optional)
                    other = self.samples.load([*group[1:], group[0]], optional) if context == OTHER else own
                    inputs = self._inputs(strategy, engine, backbone, own, other, draws)
                    losses = strategy.loss(engine.forward(inputs), inputs)
                    if counts:
                        _add(tally, f"held_out/{context}", sigma, losses, inputs)
        whole = Tally().merge(engine.gather(tally))
        return {f"held_out/{context}/clips": float(sum(map(len, groups))), **whole.means()}

    def _groups(self) -> Iterator[list[str]]:
        """Clips of one shape, `batch_size` at a time; a clip left over alone joins the group before it, so that it has another's context to be given."""
        shapes: dict[Shape, list[str]] = {}
        for name in self.names:
            shapes.setdefault(shape_of(self.samples.manifest, name), []).append(name)
        for names in shapes.values():
            groups = [names[i : i + self.batch_size] for i in range(0, len(names), self.batch_size)]
            if len(groups) > 1 and len(groups[-1]) == 1:
                groups[-2].extend(groups.pop())
            yield from groups

    def _inputs(
        self, strategy: Strategy, engine: Engine, backbone: Backbone, own: Batch, other: Batch, draws: Draws
    ) -> dict[str, ModelInput]:
        inputs = prepared(strategy, backbone, own, draws, engine.device)
        if other is own:
            return inputs
        mixed = prepared(strategy, backbone, with_context(own, other, inputs), draws, engine.device)
        clean = prepared(strategy, backbone, other, draws, engine.device)
        return {name: with_given(given, clean[name].clean) for name, given in mixed.items()}


def _dealt(groups: Sequence[list[str]], rank: int, world_size: int) -> Iterator[tuple[list[str], bool]]:
    """This process's groups, and whether they count: all processes run equally many, so that none waits for another; the last is run again where they come out uneven."""
    for start in range(0, len(groups), world_size):
        yield groups[min(start + rank, len(groups) - 1)], start + rank < len(groups)


def with_context(own: Batch, other: Batch, inputs: Mapping[str, ModelInput]) -> Batch:
    """The targets and masks of `own` with the frozen modalities, references and text of `other`."""
    targets = {name for name in MODALITIES if name in inputs and inputs[name].is_generated}
    latents = {role: (own if role in targets else other).latents[role] for role in own.latents}
    return attrs.evolve(own, latents=latents, text=other.text)


def with_given(given: ModelInput, clean: Tensor | None) -> ModelInput:
    """A generated modality whose given tokens, also those given in part, have the content of `clean` `[B, T, D]`, at the same level and noise."""
    if not given.is_generated or clean is None or given.noise is None or given.loss_mask is None:
        return given
    target = slice(0, clean.shape[1])
    content = add_noise(clean, given.noise, given.timesteps[:, target])
    tokens = given.tokens[:, target].where(given.loss_mask.unsqueeze(-1), content)
    return attrs.evolve(given, tokens=torch.cat([tokens, given.tokens[:, clean.shape[1] :]], dim=1))


def _add(tally: Tally, prefix: str, sigma: float, losses: Mapping[str, Tensor], inputs: Mapping[str, ModelInput]) -> None:
    for name, per_sample in losses.items():
        mask = inputs[name].loss_mask
        counted = torch.ones_like(per_sample, dtype=torch.bool) if mask is None else mask.any(dim=1)
        values = per_sample.float().cpu().tolist()
        for index in counted.nonzero().flatten().tolist():
            key = f"{prefix}/{name}/sigma_{sigma:.2f}"
            tally.add(key, values[index])
            for condition, applied in conditions(inputs):
                tally.add(f"{key}/{condition}/{'applied' if bool(applied[index]) else 'not_applied'}", values[index])
