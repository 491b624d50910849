"""Stored samples, which are tensors of one kind with the known facts about them. They are checked in the same way when they are written and
when they are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import torch
from torch import Tensor

from ltxcore.errors import DataError, is_out_of_memory, listed
from ltxcore.protocols import MODALITIES, Entry, Kind

MODALITY_OF_LATENTS = {4: "video", 3: "audio"}
MODALITY_OF_MASK = {3: "video", 1: "audio"}
AXES_OF_PICTURES = 5

CAPTIONS = "captions"
"""The name of the tensor with the number of positions of each of several captions."""

LONGEST_TEXT = 2**20
"""The maximum number of positions that text may be padded to. Encoders take a thousand; a damaged header may say a billion, for which
memory would then be allocated.
"""

RATES = (1e-6, 1e6)
"""The lowest and the highest number of frames per second that are accepted."""


def most_bytes(size: int) -> int:
    """Return the maximum number of bytes of memory that the tensors of a file of `size` bytes may take. A file that claims more is damaged
    or malicious.
    """
    return max(2**28, 16 * size)


@attrs.frozen(eq=False)
class Stored:
    """A sample as it is stored in its file.

    Attributes:
        kind: "latents" (tensor "latents", `[C, F, H, W]` or `[C, T, M]`), "mask" (tensor "mask", `[F, H, W]` or `[T]`),
            "pictures" (tensors "pictures", `[K, C, 1, H, W]`, and "frames", `[K]`, the pixel frames that they show), "values" (tensor
            "values", of any shape), or "text" (a tensor `[l, E]` for each modality, without padding; if there are several captions, their
            positions follow each other, and the tensor "captions", `[K]`, has the number of positions of each).
        modality: "video" or "audio"; "" for values; for text, the modalities of its features, joined by "+".
        tensors: the tensors in their stored dtype, except that 8-bit floating point becomes float32, which torch can compute with.
        rate: the frames per second (only of video latents that state them).
        length: L, the number of positions that text is padded to when it is loaded; 0 for the other kinds.
        fingerprint: a hash of everything that shaped the bytes.
        origin: the raw file that the sample was made from.
        encoder: the fingerprint of the codec or text encoder alone.
        column: the column whose plugin made the sample, with the plugin's parameters (`Entry.column`).
    """

    kind: Kind
    modality: str
    tensors: Mapping[str, Tensor]
    rate: float | None = None
    length: int = 0
    fingerprint: str = ""
    origin: str = ""
    encoder: str = ""
    column: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape for `Entry.shape`: the tensor's shape, or `(L,)` for text."""
        return (self.length,) if self.kind == "text" else tuple(self.tensors[self.kind].shape)

    @property
    def is_finite(self) -> bool:
        """Whether all values are finite. Every value is read."""
        return all(bool(torch.isfinite(tensor.float()).all()) for tensor in self.tensors.values())

    def entry(self, size: int, checksum: str = "") -> Entry:
        """Make the sample's entry for a manifest, with the size of its file in bytes and, if known, the file's checksum. Every value is
        read.
        """
        return Entry(
            shape=self.shape,
            rate=self.rate,
            finite=self.is_finite,
            bytes=size,
            fingerprint=self.fingerprint,
            origin=self.origin,
            encoder=self.encoder,
            kind=self.kind,
            modality=self.modality,
            widths=tuple(self.tensors[name].shape[1] for name in self.modality.split("+")) if self.kind == "text" else (),
            checksum=checksum,
            column=self.column,
        )


def stored(
    tensors: Mapping[str, Tensor],
    *,
    rate: float | None = None,
    length: int = 0,
    fingerprint: str = "",
    origin: str = "",
    encoder: str = "",
    column: str = "",
) -> Stored:
    """Make a sample from tensors. Its kind follows from the tensors' names, and its modality from their shape.

    Raises:
        DataError: names, dtype, shape or mask values are wrong, the rate is impossible, or text is longer than its length. NaN is not an
            error here, but is recorded in the entry.
    """
    tensors = {name: readable(name, tensor) for name, tensor in tensors.items()}
    if rate is not None and not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"a rate of {rate:g} frames per second is not possible")
    keys = set(tensors)
    if keys == {"latents"}:
        kind, modality = _latents(tensors["latents"])
    elif keys == {"mask"}:
        kind, modality = _mask(tensors["mask"])
    elif keys == {"pictures", "frames"}:
        kind, modality = _pictures(tensors["pictures"], tensors["frames"])
    elif keys == {"values"}:
        kind, modality = _values(tensors["values"])
    elif keys - {CAPTIONS} and keys - {CAPTIONS} <= set(MODALITIES):
        kind, modality = _text(tensors, length)
    else:
        raise DataError(
            f'this file holds {listed(sorted(keys)) or "no tensors"}; a sample holds "latents", "mask", "pictures" and "frames", "values", or text '
            'features named "video" and "audio"'
        )
    rate = rate if (kind, modality) == ("latents", "video") else None
    return Stored(kind, modality, tensors, rate, length if kind == "text" else 0, fingerprint, origin, encoder, column)


def readable(name: str, tensor: Tensor) -> Tensor:
    """Return a floating-point tensor in a dtype that torch can compute with: 8-bit becomes float32, which holds the same numbers.

    Raises:
        DataError: the tensor is not of a floating-point type, or torch cannot convert it.
    """
    kind = str(tensor.dtype).removeprefix("torch.")
    if not tensor.dtype.is_floating_point:
        raise DataError(f"{name} is of type {kind}, not floating point")
    if tensor.element_size() > 1:
        return tensor
    try:
        return tensor.float()
    except RuntimeError as error:  # for example, two numbers are packed in a byte
        if is_out_of_memory(error):
            raise
        raise DataError(f"{name} is of type {kind}, which is not supported") from None


def _latents(latents: Tensor) -> tuple[Kind, str]:
    if latents.ndim not in MODALITY_OF_LATENTS or latents.numel() == 0:
        raise DataError(f"latents of shape {list(latents.shape)} are neither video [C, F, H, W] nor audio [C, T, M]")
    return "latents", MODALITY_OF_LATENTS[latents.ndim]


def _mask(mask: Tensor) -> tuple[Kind, str]:
    if mask.ndim not in MODALITY_OF_MASK or mask.numel() == 0:
        raise DataError(f"a mask of shape {list(mask.shape)} fits neither a video, [F, H, W], nor a sound, [T]")
    low, high = float(mask.min()), float(mask.max())
    if low < 0.0 or high > 1.0:  # NaN passes here, and is reported later with infinite values
        raise DataError(f"the mask has values from {low:g} to {high:g}; they must lie between 0 (generated) and 1 (given)")
    return "mask", MODALITY_OF_MASK[mask.ndim]


def _pictures(pictures: Tensor, frames: Tensor) -> tuple[Kind, str]:
    if pictures.ndim != AXES_OF_PICTURES or pictures.shape[2] != 1 or pictures.numel() == 0:
        raise DataError(f"pictures of shape {list(pictures.shape)} are not [K, C, 1, H, W]")
    if tuple(frames.shape) != (pictures.shape[0],):
        raise DataError(f"there are {pictures.shape[0]} pictures, but frame numbers of shape {list(frames.shape)}")
    if bool((frames < 0).any() or (frames != frames.round()).any()):  # NaN is wrong too, since it does not equal itself
        raise DataError(
            f"the frame numbers of the pictures, {listed(f'{frame:g}' for frame in frames.tolist())}, must be whole numbers from 0"
        )
    return "pictures", "video"


def _values(values: Tensor) -> tuple[Kind, str]:
    if values.numel() == 0:
        raise DataError(f"values of shape {list(values.shape)} contain no numbers")
    return "values", ""


def of_captions(features: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors that store the text features `[l, E]` of a sample's captions; those of a single caption stay as they are."""
    first, *others = features
    if not others:
        return dict(first)
    counts = torch.tensor([float(next(iter(each.values())).shape[0]) for each in features])
    return {**{name: torch.cat([each[name] for each in features]) for name in first}, CAPTIONS: counts}


def each_caption(sample: Stored) -> list[Stored]:
    """Return a stored text for each caption of a sample."""
    counts = sample.tensors.get(CAPTIONS)
    if counts is None:
        return [sample]
    parts = {name: tensor.split([int(count) for count in counts]) for name, tensor in sample.tensors.items() if name != CAPTIONS}
    return [attrs.evolve(sample, tensors={name: part[index] for name, part in parts.items()}) for index in range(len(counts))]


def _text(tensors: Mapping[str, Tensor], length: int) -> tuple[Kind, str]:
    features = {name: tensor for name, tensor in tensors.items() if name != CAPTIONS}
    if any(tensor.ndim != 2 for tensor in features.values()) or len({tensor.shape[0] for tensor in features.values()}) > 1:
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in sorted(features.items()))
        raise DataError(f"text features must be [l, E] with the same l for every modality, not {shapes}")
    if any(tensor.shape[1] == 0 for tensor in features.values()):
        raise DataError("text features have no values per token")
    words = next(iter(features.values())).shape[0]
    if length < 1:
        raise DataError("text features do not say what length they are padded to")
    if length > LONGEST_TEXT:
        raise DataError(f"text features are padded to {length:,} positions, but at most {LONGEST_TEXT:,} are supported")
    most, counts = float(words), tensors.get(CAPTIONS)
    if counts is not None:
        most = _longest_caption(words, counts)
    if most > length:
        raise DataError(f"text features have {most:g} tokens, but their stated length is {length}")
    return "text", "+".join(name for name in MODALITIES if name in features)


def _longest_caption(words: int, counts: Tensor) -> float:
    """Return the number of positions of the longest of several captions, which have `words` positions in all."""
    if counts.ndim != 1 or bool((counts < 0).any() or (counts != counts.round()).any()) or float(counts.sum()) != words:
        raise DataError(
            f"{words} tokens cannot be divided into captions of {listed(f'{count:g}' for count in counts.flatten().tolist())} tokens"
        )
    return float(counts.max())
