"""Turn stored samples into the model's inputs: small datasets are kept in memory, inputs are made ahead in the threads
that read, and text passes through the connectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.devices import moved, pinned
from ltxcore.encoded.micro_batch import as_taken, joined, load_samples, padded_text, verify
from ltxcore.errors import DataError, Problem
from ltxcore.members import set_of
from ltxcore.protocols import (
    MODALITIES,
    Backbone,
    Batch,
    Draws,
    Manifest,
    ModelInput,
    Source,
    StoredText,
    Strategy,
    Text,
)
from ltxcore.runs.memory_settings import KEPT
from ltxcore.train.caption_dropout import CaptionDropout

CHECKED = 100
"""The interval, in samples that are read, at which one is compared with its checksum."""

CAPTION = "caption.u"
"""The name of the draw that chooses one of several captions."""


TOLD = frozenset(
    [
        *(getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device", "layout", "is_meta")),
        Tensor.size,
        Tensor.dim,
        Tensor.__len__,
    ]
)
"""The attributes and methods of a tensor that do not need its values."""


class Unknown(Tensor):
    """A tensor whose values are not known yet. Any operation that would read them fails. A plain tensor on the device "meta" does not
    suffice, because torch silently accepts it as a factor when it multiplies a tensor in place.
    """

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in TOLD:
            raise ValueError("the values of this text are not known yet")
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


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
    _kept: dict[tuple[str, frozenset[str]], tuple[Batch, tuple[StoredText, ...]]] = attrs.field(factory=dict, init=False)
    _bytes: int = attrs.field(default=0, init=False)
    _is_full: bool = attrs.field(default=False, init=False)
    _lock: Lock = attrs.field(factory=Lock, init=False)
    _reads: Iterator[int] = attrs.field(factory=count, init=False)

    def load(self, names: Sequence[str], optional: frozenset[str] = frozenset(), draws: Draws | None = None) -> Batch:
        """Return samples as one batch, with all required roles and with the optional roles named in `optional`.

        If a sample has several captions, the draws choose one; without draws, the first one is used.

        Raises:
            DataError: a file does not match the manifest.

        Source: docs/explanation/arithmetic.md#caption-of-a-pass
        """
        roles = frozenset(role for role, source in self.sources.items() if not source.optional or role in optional)
        found = self._found(names, roles)
        if draws is None or all(len(texts) < 2 for _, texts in found):
            return joined([batch for batch, _ in found])
        chosen = draws.uniform(CAPTION).tolist()
        return joined(
            [
                attrs.evolve(batch, stored_text=texts[int(len(texts) * number)]) if texts else batch
                for (batch, texts), number in zip(found, chosen, strict=True)
            ]
        )

    def damaged(self, names: Sequence[str]) -> tuple[Problem, ...]:
        """Read all files of samples again, and return the problems with those whose bytes are not as they were written. This is for samples
        whose loss is not finite, since most files are read without looking at their values.
        """
        try:
            verify(self.root, self.sources, names, self.manifest)
        except DataError as error:
            return error.problems
        return ()

    def sets(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the sets that samples come from; empty if there is only one set."""
        return tuple(set_of(self.manifest.members, name) for name in names) if self.manifest.members else ()

    def _found(self, names: Sequence[str], roles: frozenset[str]) -> list[tuple[Batch, tuple[StoredText, ...]]]:
        if not self._is_full or len(names) == 1 or any((name, roles) in self._kept for name in names):
            return [self._one(name, roles) for name in names]
        # Memory that they share is let go as a whole, so samples that are kept never share it.
        check = [name for name in names if next(self._reads) % CHECKED == 0]
        return load_samples(self.root, self.sources, names, roles, self.manifest, self.cells, check)

    def _one(self, name: str, roles: frozenset[str]) -> tuple[Batch, tuple[StoredText, ...]]:
        key = (name, roles)
        found = self._kept.get(key)
        if found is None:
            check = next(self._reads) % CHECKED == 0
            (found,) = load_samples(self.root, self.sources, [name], roles, self.manifest, self.cells, [name] if check else ())
            storages = {each.data_ptr(): each for each in (tensor.untyped_storage() for tensor in _tensors(*found))}
            size = sum(each.nbytes() for each in storages.values())  # those of several captions are views of one storage
            with self._lock:
                if key not in self._kept and self._bytes + size <= self.limit:
                    self._kept[key] = found
                    self._bytes += size
                elif key not in self._kept:
                    self._is_full = True
        return found


def _tensors(batch: Batch, texts: Sequence[StoredText]) -> list[Tensor]:
    """Return the tensors of a sample; the text of the batch is one of the texts."""
    latents = [tensor for stored in batch.latents.values() for tensor in (stored.latents, stored.rate)]
    pictures = [tensor for stored in batch.pictures.values() for tensor in (stored.latents, stored.frames)]
    words = [tensor for text in texts for tensor in text.features.values()]
    return [*latents, *batch.masks.values(), *batch.tensors.values(), *pictures, *words]


def made(strategy: Strategy, batch: Batch, draws: Draws, device: torch.device) -> tuple[Batch, dict[str, ModelInput]]:
    """Make the model's inputs for a batch, except for their text, which may need the model, and prepare everything for the copy to a
    device. This can be done ahead and in any thread, since draws do not depend on earlier draws. `prepared` adds the text.

    Returns:
        The batch, with its text ready to be copied, and its inputs; no inputs if the strategy itself reads or changes the text, or if they
        cannot be made.
    """
    unknown = _without_values(batch)
    try:
        inputs = strategy.prepare(as_taken(batch, unknown), draws)
        mask = None if unknown.is_whole else unknown.mask
        passes_on = all(
            each.context is unknown.features[name] and each.context_mask is mask and _has_values(each) for name, each in inputs.items()
        )
        ready = {name: each.ready_for(device) for name, each in inputs.items()} if passes_on else {}
    except Exception:  # noqa: BLE001 - unless only the missing values are at fault, the step meets the same error, and knows more about it
        ready = {}
    return _with_text(batch, lambda each: pinned(each, device)), ready


def _has_values(given: ModelInput) -> bool:
    """Return whether a model's input has values in everything but its text. What follows from text without values has none either."""
    own = [getattr(given, field.name) for field in attrs.fields(ModelInput) if field.name not in ("context", "context_mask")]
    return not any(isinstance(each, Tensor) and each.is_meta for each in (*own, *given.applied.values()))


def _without_values(batch: Batch) -> Text:
    """Return text without values in the shape of a batch's text. A strategy that does more than pass this text on fails."""
    text = padded_text(batch, "meta")
    features = {name: text.features.get(name, next(iter(text.features.values()))) for name in batch.latents if text.features}
    return attrs.evolve(
        text, features={name: each.as_subclass(Unknown) for name, each in features.items()}, mask=text.mask.as_subclass(Unknown)
    )


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
    text = padded_text(_with_text(batch, lambda each: each), device)
    text = attrs.evolve(text, features={name: moved(each, device) for name, each in text.features.items()}, mask=moved(text.mask, device))
    with torch.no_grad():
        connected = backbone.connect(text, [name for name in MODALITIES if name in batch.latents])
    if ahead:
        mask = None if connected.is_whole else connected.mask
        inputs = {name: attrs.evolve(given, context=connected.features[name], context_mask=mask) for name, given in ahead.items()}
    else:
        inputs = dict(strategy.prepare(as_taken(batch, connected), draws))
    return inputs if drops is None else drops(inputs, draws)


def _with_text(batch: Batch, each: Callable[[Tensor], Tensor]) -> Batch:
    """Return a batch with a function applied to its text features, without those for modalities that the batch does not have. Features for
    all modalities may be stored under the name of one.
    """

    def needed(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        own = {name: values for name, values in features.items() if name in batch.latents} or features
        return {name: each(values) for name, values in own.items()}

    if batch.stored_text is not None:
        return attrs.evolve(batch, stored_text=attrs.evolve(batch.stored_text, features=needed(batch.stored_text.features)))
    return attrs.evolve(batch, text=attrs.evolve(batch.text, features=needed(batch.text.features), mask=each(batch.text.mask)))


def sent(inputs: Mapping[str, ModelInput], device: torch.device) -> dict[str, ModelInput]:
    """Move the model's inputs to a device."""
    return {name: given.to(device) for name, given in inputs.items()}
