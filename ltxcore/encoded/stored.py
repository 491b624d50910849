"""Stored samples: tensors of one kind, and the known facts about them, checked in the same way when written and when read."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch
from torch import Tensor

from ltxcore.errors import DataError, is_out_of_memory, listed
from ltxcore.protocols import MODALITIES, Entry, Kind

MODALITY_OF_LATENTS = {4: "video", 3: "audio"}
MODALITY_OF_MASK = {3: "video", 1: "audio"}

LONGEST_TEXT = 2**20
"""The most positions that text may be padded to. Encoders take a thousand; a header that says a billion is damaged, and
would be believed when memory is allocated.
"""

RATES = (1e-6, 1e6)
"""The least and the most frames per second."""


def most_bytes(size: int) -> int:
    """Return the most bytes of memory that a file of `size` bytes may claim to take. A file that claims far more is
    damaged, or malicious.
    """
    return max(2**28, 16 * size)


@attrs.frozen(eq=False)
class Stored:
    """A sample as it is stored in its file.

    Attributes:
        kind: "latents" (tensor "latents", `[C, F, H, W]` or `[C, T, M]`), "mask" (tensor "mask", `[F, H, W]` or `[T]`),
            or "text" (a tensor `[l, E]` for each modality, without padding).
        modality: "video" or "audio"; for text, the modalities that it has features for, joined by "+".
        tensors: the tensors in their stored dtype; those of 8-bit floating point as float32, with which torch can
            compute.
        rate: the frames per second (only of video latents that state them).
        length: L, the positions that text is padded to when it is loaded; 0 for the other kinds.
        fingerprint: a hash of everything that shaped the bytes.
        origin: the raw file it was made from.
        encoder: the fingerprint of the codec or text encoder alone.
    """

    kind: Kind
    modality: str
    tensors: Mapping[str, Tensor]
    rate: float | None = None
    length: int = 0
    fingerprint: str = ""
    origin: str = ""
    encoder: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape for `Entry.shape`: that of the tensor, or `(L,)` for text."""
        return (self.length,) if self.kind == "text" else tuple(self.tensors[self.kind].shape)

    def entry(self, size: int, checksum: str = "") -> Entry:
        """Make the sample's entry for a manifest; `size` is in bytes, and the checksum is that of its file, if known.
        Every value is read.
        """
        return Entry(
            shape=self.shape,
            rate=self.rate,
            finite=all(bool(torch.isfinite(tensor.float()).all()) for tensor in self.tensors.values()),
            bytes=size,
            fingerprint=self.fingerprint,
            origin=self.origin,
            encoder=self.encoder,
            kind=self.kind,
            modality=self.modality,
            widths=tuple(self.tensors[name].shape[1] for name in self.modality.split("+")) if self.kind == "text" else (),
            checksum=checksum,
        )


def stored(
    tensors: Mapping[str, Tensor],
    *,
    rate: float | None = None,
    length: int = 0,
    fingerprint: str = "",
    origin: str = "",
    encoder: str = "",
) -> Stored:
    """Make a sample of tensors, if they are one: the kind follows from their names, the modality from their shape.

    Raises:
        DataError: names, dtype, shape or mask values are wrong, the rate is impossible, or text is longer than its
            length. NaN is not an error here: the entry records it.
    """
    tensors = {name: readable(name, tensor) for name, tensor in tensors.items()}
    if rate is not None and not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"its rate is {rate:g} frames per second")
    keys = set(tensors)
    if keys == {"latents"}:
        kind, modality = _latents(tensors["latents"])
    elif keys == {"mask"}:
        kind, modality = _mask(tensors["mask"])
    elif keys and keys <= set(MODALITIES):
        kind, modality = _text(tensors, length)
    else:
        raise DataError(
            f'it holds {listed(sorted(keys)) or "no tensors"}; a sample holds "latents", "mask", or text features named "video" and "audio"'
        )
    rate = rate if (kind, modality) == ("latents", "video") else None
    return Stored(kind, modality, tensors, rate, length if kind == "text" else 0, fingerprint, origin, encoder)


def readable(name: str, tensor: Tensor) -> Tensor:
    """Return a floating-point tensor that can be computed with; an 8-bit one as float32, which holds the same numbers.

    Raises:
        DataError: it is of another type.
    """
    kind = str(tensor.dtype).removeprefix("torch.")
    if not tensor.dtype.is_floating_point:
        raise DataError(f"{name} is of type {kind}, not floating point")
    if tensor.element_size() > 1:
        return tensor
    try:
        return tensor.float()
    except RuntimeError as error:  # such as two numbers packed in a byte
        if is_out_of_memory(error):
            raise
        raise DataError(f"{name} is of type {kind}, which is not supported") from None


def _latents(latents: Tensor) -> tuple[Kind, str]:
    if latents.ndim not in MODALITY_OF_LATENTS or latents.numel() == 0:
        raise DataError(f"latents of shape {list(latents.shape)} are neither video [C, F, H, W] nor audio [C, T, M]")
    return "latents", MODALITY_OF_LATENTS[latents.ndim]


def _mask(mask: Tensor) -> tuple[Kind, str]:
    if mask.ndim not in MODALITY_OF_MASK or mask.numel() == 0:
        raise DataError(f"a mask of shape {list(mask.shape)} is neither that of a video [F, H, W] nor of a sound [T]")
    low, high = float(mask.min()), float(mask.max())
    if low < 0.0 or high > 1.0:  # NaN passes here, and is reported with the other values that are not finite
        raise DataError(f"the mask has values from {low:g} to {high:g}; they must lie between 0 (generated) and 1 (given)")
    return "mask", MODALITY_OF_MASK[mask.ndim]


def _text(features: Mapping[str, Tensor], length: int) -> tuple[Kind, str]:
    if any(tensor.ndim != 2 for tensor in features.values()) or len({tensor.shape[0] for tensor in features.values()}) > 1:
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in sorted(features.items()))
        raise DataError(f"text features must be [l, E] with the same l for every modality, not {shapes}")
    if any(tensor.shape[1] == 0 for tensor in features.values()):
        raise DataError("text features have no values per token")
    words = next(iter(features.values())).shape[0]
    if length < 1:
        raise DataError("text features do not say what length they are padded to")
    if length > LONGEST_TEXT:
        raise DataError(f"text features that are padded to {length:,} positions; {LONGEST_TEXT:,} is the most")
    if words > length:
        raise DataError(f"text features have {words} tokens, but their stated length is {length}")
    return "text", "+".join(name for name in MODALITIES if name in features)
