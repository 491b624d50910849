"""Generate the samples of `[validation]` during training, with the same sampler that `ltx sample` uses."""

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
from ltxcore.train.dealing import in_turns
from ltxcore.train.held_out_generations import Generation
from ltxcore.train.out_of_memory import Spared


class Generations(Protocol):
    """Generates clips with a model that is being trained."""

    @property
    def at_intervals(self) -> bool:
        """Whether clips are also generated during training, and not only before and after."""
        ...

    def generate(self, engine: Engine, backbone: LTXBackbone, folder: Path, step: int, spared: Spared) -> list[Generation]:
        """Generate every clip that `spared` does not leave out, from the same noise at every step, and write the clips
        to `folder`.
        """
        ...


@attrs.frozen(eq=False)
class Validation:
    """Generates the samples of a run file.

    Attributes:
        samples: the samples, encoded before training.
        model: the model whose codecs decode the clips. The codecs are loaded each time they are needed, so that they
            take no memory during training.
        marks: whether the first latent frame is marked; the same as in the training of the run.
    """

    samples: Sequence[Encoded]
    model: Codecs
    marks: bool = True
    at_intervals: bool = attrs.field(default=True, init=False)

    @classmethod
    def of(cls, samples: Sequence[Planned], model: Codecs, marks: bool = True) -> Validation:
        """Encode the samples of a run file.

        Raises:
            LtxError: a file cannot be read or encoded, or the model has no text encoder or no codec for a generated
                modality.
        """
        with decoders(model, {name for sample in samples for name in sample.canvas.request.generated}):
            pass  # raises errors now that would otherwise be found only after the first steps
        return cls(encode(samples, model), model, marks)

    def generate(self, engine: Engine, backbone: LTXBackbone, folder: Path, step: int, spared: Spared) -> list[Generation]:
        """Generate every sample. Each process generates a share of the samples, in step with the others; the first
        process decodes and writes all of them.
        """
        sampler = Sampler(backbone, engine.forward, engine.device, self.marks)
        names = named([sample.canvas.request.prompt for sample in self.samples])
        mine: dict[int, Mapping[str, Tensor]] = {}
        with engine.evaluating():
            for index, counts in dealt(self.samples, engine.data_parallel_rank, engine.data_parallel_size):
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
    """Yield the number of each sample of this process, and whether its result is used.

    All processes run the same passes at the same time, so samples with the same modalities are dealt out together.
    """
    kinds: dict[tuple[frozenset[str], frozenset[str]], list[int]] = {}
    for index, sample in enumerate(samples):
        request = sample.canvas.request
        kinds.setdefault((request.modalities, request.generated), []).append(index)
    for alike in kinds.values():
        yield from in_turns(alike, rank, world_size)


def named(prompts: Sequence[str]) -> list[str]:
    """Return a name for each sample: its prompt, with a number at the end if an earlier sample has the same prompt."""
    counts = [prompts[: index + 1].count(prompt) for index, prompt in enumerate(prompts)]
    return [f"{prompt} ({count})" if count > 1 else prompt for prompt, count in zip(prompts, counts, strict=True)]
