"""The samples of `[validation]`, generated during training by the same sampler that `ltx sample` uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import attrs
from torch import Tensor

from ltxcore.codecs.source import Codecs
from ltxcore.models.backbone import LTXBackbone
from ltxcore.protocols import Engine
from ltxcore.sample.encode_inputs import Encoded, encode
from ltxcore.sample.media_needs import Planned
from ltxcore.sample.outputs import decoders, shown, write
from ltxcore.sample.sampler import Sampler
from ltxcore.train.held_out_generations import Generation
from ltxcore.train.out_of_memory import Spared


class Generations(Protocol):
    """Generates clips with a model that is being trained."""

    @property
    def at_intervals(self) -> bool:
        """Whether it generates during training, or only before and after."""
        ...

    def generate(self, engine: Engine, backbone: LTXBackbone, folder: Path, step: int, spared: Spared) -> list[Generation]:
        """Generate every clip except those that `spared` leaves out, from noise that is the same at every step, and
        write it to `folder`.
        """
        ...


@attrs.frozen(eq=False)
class Validation:
    """Generates the samples of a run file.

    Attributes:
        samples: the samples, encoded before training.
        model: the model whose codecs decode what is generated. They are loaded anew each time, so that they take no memory from
            training.
        marks: whether the first latent frame is marked, as in the run's training.
    """

    samples: Sequence[Encoded]
    model: Codecs
    marks: bool = True
    at_intervals: bool = attrs.field(default=True, init=False)

    @classmethod
    def of(cls, samples: Sequence[Planned], model: Codecs, marks: bool = True) -> Validation:
        """Encode the samples of a run file.

        Raises:
            LtxError: a file cannot be read or encoded, or the model has no text encoder, or no codec for what is to be generated.
        """
        with decoders(model, {name for sample in samples for name in sample.canvas.request.generated}):
            pass  # errors that would come after the first steps are raised before them
        return cls(encode(samples, model), model, marks)

    def generate(self, engine: Engine, backbone: LTXBackbone, folder: Path, step: int, spared: Spared) -> list[Generation]:
        """Generate every sample; each process generates its share in step with the others, and the first one decodes and writes."""
        sampler = Sampler(backbone, engine.forward, engine.device, self.marks)
        names = named([sample.canvas.request.prompt for sample in self.samples])
        mine: dict[int, Mapping[str, Tensor]] = {}
        with engine.evaluating():
            for index, counts in dealt(self.samples, engine.rank, engine.world_size):
                with spared.drawing(names[index]):
                    latents = sampler.generate(self.samples[index])
                    if counts:
                        mine[index] = latents
        drawn = {index: latents for part in engine.gather(mine) for index, latents in part.items()}
        return engine.first(lambda: self._written(drawn, names, folder, step, spared))

    def _written(
        self, drawn: Mapping[int, Mapping[str, Tensor]], names: Sequence[str], folder: Path, step: int, spared: Spared
    ) -> list[Generation]:
        found = []
        with decoders(self.model, {name for latents in drawn.values() for name in latents}) as codecs:
            for index, latents in sorted(drawn.items()):
                with spared.decoding(names[index]):
                    path = write(shown(self.samples[index], latents, codecs), folder / f"step_{step:06d}_{index + 1}")
                    found.append(Generation(names[index], path))
        return found


def dealt(samples: Sequence[Encoded], rank: int, world_size: int) -> Iterator[tuple[int, bool]]:
    """Yield the samples of this process, by number, and whether each counts.

    All processes run the same passes at the same time: samples with the same modalities are dealt together, and the
    last of them is generated again if they do not divide evenly.
    """
    kinds: dict[tuple[frozenset[str], frozenset[str]], list[int]] = {}
    for index, sample in enumerate(samples):
        request = sample.canvas.request
        kinds.setdefault((request.modalities, request.generated), []).append(index)
    for alike in kinds.values():
        for start in range(0, len(alike), world_size):
            yield alike[min(start + rank, len(alike) - 1)], start + rank < len(alike)


def named(prompts: Sequence[str]) -> list[str]:
    """Return the prompts as names of samples; a repeated name gets a number at its end."""
    counts = [prompts[: index + 1].count(prompt) for index, prompt in enumerate(prompts)]
    return [f"{prompt} ({count})" if count > 1 else prompt for prompt, count in zip(prompts, counts, strict=True)]
