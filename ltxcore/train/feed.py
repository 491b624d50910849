"""Turn stored samples into the model's inputs: small datasets are kept in memory, inputs are made ahead in the threads
that read, and text passes through the connectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import attrs
import torch
from torch import Tensor

from ltxcore.devices import moved, pinned
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


def made(strategy: Strategy, batch: Batch, draws: Draws, device: torch.device) -> tuple[Batch, dict[str, ModelInput]]:
    """Make the model's inputs for a batch, except for their text, which may need the model, and make all ready to be copied to a device.
    This can be done ahead and in any thread, since draws do not depend on earlier draws. `prepared` adds the text.

    Returns:
        The batch, with its text ready to be copied, and its inputs; no inputs if the strategy itself reads or changes the text, or if they
        cannot be made.
    """
    unknown = _without_values(batch)
    try:
        inputs = strategy.prepare(attrs.evolve(batch, text=unknown), draws)
        mask = None if unknown.is_whole else unknown.mask
        passes_on = all(each.context is unknown.features[name] and each.context_mask is mask for name, each in inputs.items())
        ready = {name: each.ready_for(device) for name, each in inputs.items()} if passes_on else {}
    except Exception:  # noqa: BLE001 - unless only the missing values are at fault, the step meets the same error, and knows more about it
        ready = {}
    return attrs.evolve(batch, text=_text(batch, lambda each: pinned(each, device))), ready


def _without_values(batch: Batch) -> Text:
    """Return text of the shape of a batch's text. A strategy that does more with it than to pass it on fails, or changes it."""
    text, device = batch.text, "meta"
    features = {name: text.features.get(name, next(iter(text.features.values()))) for name in batch.latents if text.features}
    of_shape = {name: torch.empty_like(each, device=device) for name, each in features.items()}
    return attrs.evolve(text, features=of_shape, mask=torch.empty_like(text.mask, device=device))


def prepared(
    strategy: Strategy,
    backbone: Backbone,
    batch: Batch,
    draws: Draws,
    device: torch.device,
    drops: CaptionDropout | None = None,
    ahead: Mapping[str, ModelInput] = MappingProxyType({}),
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
        ahead: the inputs that `made` returned with this batch, for the same draws; without them, the inputs are made now.

    Raises:
        DataError: a condition cannot apply to these samples.
    """
    text = _text(batch, lambda each: moved(each, device))
    with torch.no_grad():
        connected = backbone.connect(text, [name for name in MODALITIES if name in batch.latents])
    if ahead:
        mask = None if connected.is_whole else connected.mask
        inputs = {name: attrs.evolve(given, context=connected.features[name], context_mask=mask) for name, given in ahead.items()}
    else:
        inputs = dict(strategy.prepare(attrs.evolve(batch, text=connected), draws))
    return inputs if drops is None else drops(inputs, draws)


def _text(batch: Batch, move: Callable[[Tensor], Tensor]) -> Text:
    """Return the text of a batch, moved, without features for modalities that the batch does not have. Features for all modalities may be
    stored under the name of one.
    """
    text = batch.text
    needed = {name: each for name, each in text.features.items() if name in batch.latents} or text.features
    return attrs.evolve(text, features={name: move(each) for name, each in needed.items()}, mask=move(text.mask))


def sent(inputs: Mapping[str, ModelInput], device: torch.device) -> dict[str, ModelInput]:
    """Move the model's inputs to a device."""
    return {name: given.to(device) for name, given in inputs.items()}
