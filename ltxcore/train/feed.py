"""The way from stored samples to the model's inputs: small datasets are kept in memory, and text passes through the connectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ltxcore.devices import moved
from ltxcore.encoded.micro_batch import load_batch
from ltxcore.protocols import MODALITIES, Backbone, Batch, Draws, Manifest, ModelInput, Source, StoredLatents, Strategy, Text
from ltxcore.runs.memory_settings import KEPT


@attrs.define(eq=False)
class Samples:
    """The stored samples of a run.

    Attributes:
        root: the folder of all sources.
        sources: the sources by role.
        manifest: the manifest of the samples.
        limit: the most bytes kept in memory; a sample that no longer fits is read again each time.
        texts: the text features of the prompts that are kept beside them and that the run needs, `[1, L, E]` each.
    """

    root: Path
    sources: Mapping[str, Source]
    manifest: Manifest
    limit: int = KEPT
    texts: Mapping[str, Text] = attrs.field(factory=dict)
    _kept: dict[tuple[str, frozenset[str]], Batch] = attrs.field(factory=dict, init=False)
    _bytes: int = attrs.field(default=0, init=False)

    def load(self, names: Sequence[str], optional: frozenset[str] = frozenset()) -> Batch:
        """Return samples as one batch: all required roles, and the optional roles in `optional`.

        Raises:
            DataError: a file does not match the manifest.
        """
        roles = frozenset(role for role, source in self.sources.items() if not source.optional or role in optional)
        return joined([self._one(name, roles) for name in names])

    def _one(self, name: str, roles: frozenset[str]) -> Batch:
        key = (name, roles)
        found = self._kept.get(key)
        if found is None:
            found = load_batch(self.root, self.sources, [name], roles, self.manifest)
            size = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(found))
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
    features = {name: torch.cat([batch.text.features[name] for batch in batches]) for name in first.text.features}
    mask, is_whole = torch.cat([batch.text.mask for batch in batches]), all(batch.text.is_whole for batch in batches)
    text = Text(features, mask, first.text.is_connected, is_whole)
    return Batch(tuple(name for batch in batches for name in batch.names), latents, masks, text)


def _tensors(batch: Batch) -> list[Tensor]:
    latents = [tensor for stored in batch.latents.values() for tensor in (stored.latents, stored.rate)]
    return [*latents, *batch.masks.values(), *batch.text.features.values(), batch.text.mask]


def prepared(strategy: Strategy, backbone: Backbone, batch: Batch, draws: Draws, device: torch.device) -> dict[str, ModelInput]:
    """Make the model's inputs for a batch on the CPU; text that has not yet passed through the connectors does so on
    their device.

    The inputs still have to be `sent` to the device. What will be needed from them later (`Facts`) is taken before
    that, when it does not wait for the device. The backbone may have more modalities than the batch, for generating
    samples.

    Args:
        strategy: makes the inputs.
        backbone: connects the text.
        batch: samples of one shape.
        draws: the random draws for these samples.
        device: the device of the model.

    Raises:
        DataError: a condition cannot apply to these samples.
    """
    stored = batch.text
    features = {name: moved(each, device) for name, each in stored.features.items()}
    text = Text(features, moved(stored.mask, device), stored.is_connected, stored.is_whole)
    with torch.no_grad():
        connected = backbone.connect(text, [name for name in MODALITIES if name in batch.latents])
    return dict(strategy.prepare(attrs.evolve(batch, text=connected), draws))


def sent(inputs: Mapping[str, ModelInput], device: torch.device) -> dict[str, ModelInput]:
    """Move the model's inputs to its device."""
    return {name: given.to(device) for name, given in inputs.items()}
