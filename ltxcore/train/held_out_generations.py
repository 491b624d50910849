"""Generate held-out clips under the run's own conditions, and show each beside its original."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ltxcore.codecs.source import Codecs
from ltxcore.drawn_conditions import VALUE
from ltxcore.flow.draws import CountedDraws
from ltxcore.protocols import Backbone, Draws, Engine, Modality, Setting, Strategy
from ltxcore.sample.euler import euler, plain
from ltxcore.sample.outputs import decoders, write_media
from ltxcore.train.feed import Samples, prepared, sent
from ltxcore.train.out_of_memory import Spared
from ltxcore.train.validation_loss import EPOCH, FixedSigma


@attrs.frozen
class Generation:
    """A generated clip.

    Attributes:
        name: the name of the clip or sample.
        path: the file that was generated after training.
        original: the original clip, decoded from its latents, so that the VAE degrades both clips alike; None for a
            sample from a prompt.
        before: the file that was generated before training; None if no such file was requested.
    """

    name: str
    path: Path
    original: Path | None = None
    before: Path | None = None


@attrs.frozen(eq=False)
class Always:
    """Random draws that make every condition apply, whatever its probability; drawn values are those of the clip."""

    draws: Draws

    @property
    def size(self) -> int:
        return self.draws.size

    def normal(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        return self.draws.normal(key, shape)

    def uniform(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        return self.draws.uniform(key, shape) if VALUE in key else torch.zeros(self.size, *shape)

    def shared_uniform(self, key: str) -> float:
        return self.draws.shared_uniform(key) if VALUE in key else 0.0


@attrs.frozen(eq=False)
class _Latents:
    """The generated and the original latents of a clip, `[C, ...]` by modality, with the frames or latent steps per
    second of each modality.
    """

    generated: Mapping[str, Tensor]
    original: Mapping[str, Tensor]
    rates: Mapping[str, float]


@attrs.frozen(eq=False)
class HeldOutGenerations:
    """Generates held-out clips from noise.

    Attributes:
        names: the names of the clips.
        samples: the samples that the clips are read from.
        strategy: the run's strategy, with sigma 1 for every sample, so that the inputs it prepares are the start of
            generation.
        modalities: the modalities by name.
        model: the model whose codecs decode the clips.
        sigmas: the noise levels, from 1 to 0.
        seed: the seed of the noise.
        at_intervals: whether clips are also generated during training, and not only before and after.
    """

    names: Sequence[str]
    samples: Samples
    strategy: Strategy
    modalities: Mapping[str, Modality]
    model: Codecs
    sigmas: Tensor
    seed: int
    at_intervals: bool = attrs.field(default=False, init=False)

    @classmethod
    def of(
        cls,
        build: Callable[[Setting], Strategy],
        setting: Setting,
        names: Sequence[str],
        samples: Samples,
        model: Codecs,
        sigmas: Tensor,
        seed: int,
    ) -> HeldOutGenerations:
        strategy = build(attrs.evolve(setting, sigma_sampler=FixedSigma(1.0)))
        return cls(names, samples, strategy, setting.modalities, model, sigmas, seed)

    def generate(self, engine: Engine, backbone: Backbone, folder: Path, step: int, spared: Spared) -> list[Generation]:
        """Generate every clip that `spared` does not leave out, from the same noise at every step, and write the clips
        to `folder`. Every process generates clips; the first process decodes and writes them.
        """
        clips: dict[int, _Latents] = {}
        for index, name in enumerate(self.names):
            with spared.drawing(name):
                clips[index] = self._one(engine, backbone, name)
        return engine.first(lambda: self._written(clips, folder, step, spared))

    def _one(self, engine: Engine, backbone: Backbone, name: str) -> _Latents:
        draws = Always(CountedDraws(self.seed, EPOCH, (name,), name))
        batch = self.samples.load([name], self.strategy.wanted(draws))
        with engine.evaluating():
            inputs = sent(prepared(self.strategy, backbone, batch, draws, engine.device), engine.device)
            tokens = euler(plain(engine.forward), inputs, self.sigmas)
        own = {modality: batch.latents[modality] for modality, given in inputs.items() if not given.is_absent}
        original = {modality: stored.latents[0].float() for modality, stored in own.items()}
        result = dict(original)
        for modality, drawn in ((each, tokens[each]) for each in tokens if each in own):
            grid = self.modalities[modality].grid(own[modality].latents)
            result[modality] = self.modalities[modality].unpatchify(drawn.cpu(), grid)[0]
        return _Latents(result, original, {modality: float(stored.rate[0]) for modality, stored in own.items()})

    def _written(self, clips: Mapping[int, _Latents], folder: Path, step: int, spared: Spared) -> list[Generation]:
        found = []
        with decoders(self.model, {modality for clip in clips.values() for modality in clip.generated}) as codecs:
            for index, clip in clips.items():
                with spared.decoding(self.names[index]):
                    drawn = write_media(clip.generated, clip.rates, codecs, folder / f"step_{step:06d}_{index + 1}")
                    original = write_media(clip.original, clip.rates, codecs, folder / f"original_{index + 1}")
                    found.append(Generation(self.names[index], drawn, original))
        return found
