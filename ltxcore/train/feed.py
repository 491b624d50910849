"""Turn stored samples into the model's inputs: small datasets are kept in memory, and text passes through the
connectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ltxcore.devices import moved
from ltxcore.encoded.micro_batch import load_sample
from ltxcore.members import set_of
from ltxcore.pictures import StoredPictures
from ltxcore.protocols import (
    MODALITIES,
    Backbone,
    Batch,
    Draws,
    Manifest,
    ModelInput,
    Source,
    StoredLatents,
    Strategy,
    Text,
)
from ltxcore.runs.memory_settings import KEPT
from ltxcore.train.caption_dropout import CaptionDropout

CAPTION = "caption.u"
"""The name of the draw that chooses one of several captions."""


@attrs.define(eq=False)
class Samples:
    """The stored samples of a run.

    Attributes:
        root: the folder of all sources.
        sources: the sources by role.
        manifest: the manifest of the samples.
        limit: the maximum number of bytes kept in memory; a sample that no longer fits is read from disk each time.
        texts: the text features, `[1, L, E]`, of each prompt that the run needs; they are stored beside the samples.
        cells: the shapes of placeholders for modalities that none of these samples has.
    """

    root: Path
    sources: Mapping[str, Source]
    manifest: Manifest
    limit: int = KEPT
    texts: Mapping[str, Text] = attrs.field(factory=dict)
    cells: Mapping[str, tuple[int, ...]] = attrs.field(factory=dict)
    _kept: dict[tuple[str, frozenset[str]], tuple[Batch, tuple[Text, ...]]] = attrs.field(factory=dict, init=False)
    _bytes: int = attrs.field(default=0, init=False)

    def load(self, names: Sequence[str], optional: frozenset[str] = frozenset(), draws: Draws | None = None) -> Batch:
        """Return samples as one batch, with all required roles and with the optional roles named in `optional`.

        Of several captions of a sample, the draws choose one; without draws, it is the first.

        Raises:
            DataError: a file does not match the manifest.

        Source: docs/explanation/arithmetic.md#caption-of-a-pass
        """
        roles = frozenset(role for role, source in self.sources.items() if not source.optional or role in optional)
        found = [self._one(name, roles) for name in names]
        if draws is None or all(len(texts) < 2 for _, texts in found):
            return joined([batch for batch, _ in found])
        chosen = draws.uniform(CAPTION).tolist()
        return joined(
            [
                attrs.evolve(batch, text=texts[int(len(texts) * number)]) if texts else batch
                for (batch, texts), number in zip(found, chosen, strict=True)
            ]
        )

    def sets(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the sets that samples come from; empty if there is only one set."""
        return tuple(set_of(self.manifest.members, name) for name in names) if self.manifest.members else ()

    def _one(self, name: str, roles: frozenset[str]) -> tuple[Batch, tuple[Text, ...]]:
        key = (name, roles)
        found = self._kept.get(key)
        if found is None:
            found = load_sample(self.root, self.sources, name, roles, self.manifest, self.cells)
            size = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(*found))
            if self._bytes + size <= self.limit:
                self._kept[key] = found
                self._bytes += size
        return found


def joined(batches: Sequence[Batch]) -> Batch:
    """Join several batches of the same shapes into one."""
    if len(batches) == 1:
        return batches[0]
    first = batches[0]
    latents = {
        role: StoredLatents(
            torch.cat([batch.latents[role].latents for batch in batches]), torch.cat([batch.latents[role].rate for batch in batches])
        )
        for role in first.latents
    }
    masks = {role: torch.cat([batch.masks[role] for batch in batches]) for role in first.masks}
    tensors = {role: torch.cat([batch.tensors[role] for batch in batches]) for role in first.tensors}
    pictures = {
        role: StoredPictures(
            torch.cat([batch.pictures[role].latents for batch in batches]), torch.cat([batch.pictures[role].frames for batch in batches])
        )
        for role in first.pictures
    }
    features = {name: torch.cat([batch.text.features[name] for batch in batches]) for name in first.text.features}
    mask, is_whole = torch.cat([batch.text.mask for batch in batches]), all(batch.text.is_whole for batch in batches)
    text = Text(features, mask, first.text.is_connected, is_whole)
    return Batch(tuple(name for batch in batches for name in batch.names), latents, masks, text, tensors, pictures, first.absent)


def _tensors(batch: Batch, texts: Sequence[Text]) -> list[Tensor]:
    """Return the tensors of a sample; its first text is that of the batch."""
    latents = [tensor for stored in batch.latents.values() for tensor in (stored.latents, stored.rate)]
    pictures = [tensor for stored in batch.pictures.values() for tensor in (stored.latents, stored.frames)]
    words = [tensor for text in (batch.text, *texts[1:]) for tensor in (*text.features.values(), text.mask)]
    return [*latents, *batch.masks.values(), *batch.tensors.values(), *pictures, *words]


def prepared(
    strategy: Strategy, backbone: Backbone, batch: Batch, draws: Draws, device: torch.device, drops: CaptionDropout | None = None
) -> dict[str, ModelInput]:
    """Prepare the model's inputs for a batch on the CPU. Text that has not yet passed through the connectors passes
    through them on the model's device.

    The caller sends the inputs to the device with `sent`, and reads what it will report about them (`Facts`) before
    that, because reading from the CPU does not wait for the device. The backbone may have modalities that the batch
    lacks, because they are needed to generate samples.

    Args:
        strategy: makes the inputs.
        backbone: connects the text.
        batch: samples of one shape.
        draws: the random draws for these samples.
        device: the device of the model.
        drops: drops captions in training; None to keep all captions.

    Raises:
        DataError: a condition cannot apply to these samples.
    """
    stored = batch.text
    features = {name: moved(each, device) for name, each in stored.features.items()}
    text = Text(features, moved(stored.mask, device), stored.is_connected, stored.is_whole)
    with torch.no_grad():
        connected = backbone.connect(text, [name for name in MODALITIES if name in batch.latents])
    inputs = dict(strategy.prepare(attrs.evolve(batch, text=connected), draws))
    return inputs if drops is None else drops(inputs, draws)


def sent(inputs: Mapping[str, ModelInput], device: torch.device) -> dict[str, ModelInput]:
    """Move the model's inputs to a device."""
    return {name: given.to(device) for name, given in inputs.items()}
