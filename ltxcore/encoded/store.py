"""Storage of samples: one safetensors file per sample and folder, with the known facts in its header. A file is written
either completely or not at all, and with the same bytes every time.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import safetensors
import safetensors.torch
from torch import Tensor

from ltxcore.encoded import pt
from ltxcore.encoded.sample_names import FOREIGN, SUFFIX, sample_path, stored_name
from ltxcore.encoded.stored import Stored, stored
from ltxcore.errors import DataError, Problem, is_out_of_memory
from ltxcore.files import printable, read_regular, write_whole
from ltxcore.protocols import Entry, Kind

MANIFESTS = "manifest*.jsonl"
"""The names of the manifests in a folder of samples, one for each process of `ltx preprocess`."""

REDO = "Run `ltx preprocess --verify` on its dataset, which encodes damaged files again."

OWN = (
    "Write it again: latents [C, F, H, W] or [C, T, M], or a mask [F, H, W] or [T] with values from 0 to 1. "
    "`ltx preprocess` cannot write it, because no manifest records how it was made."
)

DAMAGED = "is damaged: its bytes are not those that were written"

LARGEST = 2**32
"""The most bytes of a file that is read as a sample. Minutes of video take a hundredth of that; anything larger, such
as a file with a hole in it, would take all memory.
"""

LONGEST_HEADER = 100_000_000
"""The most bytes of a header, which is the limit of safetensors."""


def write_sample(root: Path, folder: str, name: str, tensors: Mapping[str, Tensor], entry: Entry) -> Entry:
    """Write one sample to `<root>/<folder>/<name>.safetensors`; the caller then records the returned entry
    (`manifest.append_entry`).

    Args:
        root: the data root.
        folder: the source's folder.
        name: the sample's name, the same in every folder; it may contain "/".
        tensors: `{"latents": [C, F, H, W]}` or `[C, T, M]`; `{"mask": [F, H, W]}` or `[T]`; or text features `[l, E]` by modality, without padding.
        entry: an entry with what the tensors do not tell: rate (video), fingerprint, origin, encoder; for text also
            `shape = (L,)`, the length that it is padded to when it is loaded.

    Returns:
        The entry with the rest filled in: shape, bytes, checksum, kind, modality, and whether all values are finite.

    Raises:
        DataError: the name leads out of the root, the tensors are not a sample, or they cannot be written to disk.
    """
    path = sample_path(root, folder, name)
    length = entry.shape[0] if len(entry.shape) == 1 else 0
    try:
        origin = printable(entry.origin)
        sample = stored(tensors, rate=entry.rate, length=length, fingerprint=entry.fingerprint, origin=origin, encoder=entry.encoder)
    except DataError as error:
        raise error.at(str(path)) from None
    if entry.shape and entry.shape != sample.shape:
        raise ValueError(f"the entry of {path} says shape {entry.shape}, the tensors {sample.shape}")
    # Copied, because safetensors refuses views that share their memory.
    data = safetensors.torch.save({key: tensor.detach().cpu().clone().contiguous() for key, tensor in tensors.items()})
    data = _with_metadata(data, _metadata(sample, name))
    try:
        write_whole(path, data)
    except OSError as error:
        raise DataError(
            f"cannot be written: {error.strerror}", where=str(path), remedy="Free some space, or name another data root."
        ) from error
    return sample.entry(len(data), checksum(data))


def checksum(data: bytes) -> str:
    """Compute the `Entry.checksum` of a file with these bytes: half of their SHA-256, for which processors have instructions."""
    return hashlib.sha256(data).hexdigest()[:32]


def damage(path: Path, entry: Entry) -> Problem | None:
    """Find what is wrong with the bytes of a sample's file; None if they are those that were written, or if the entry
    has no checksum and the file can be read.
    """
    try:
        data = _bytes(path)
    except DataError as error:
        return error.problems[0]
    if not entry.checksum or entry.checksum == checksum(data):
        return None
    return Problem(DAMAGED, str(path), redo(path))


def redo(path: Path) -> str:
    """Say what to do about a sample's file that cannot be used. The user is never told to delete it, since without a
    manifest it may be the only copy.
    """
    return REDO if any(next(folder.glob(MANIFESTS), None) for folder in path.absolute().parents) else OWN


def read_stored(path: Path) -> tuple[Stored, int]:
    """Read a sample, ours or one of ltx-trainer (`.pt`), and the size of its file in bytes.

    Raises:
        DataError: the file, which is named, is missing, unreadable, truncated, or not a sample.
    """
    data = _bytes(path)
    return _sample(path, data), len(data)


def read_recorded(path: Path) -> tuple[Stored, Entry]:
    """Read a sample, and make the entry that a manifest would have for it, with the checksum of its file as it is now.

    Raises:
        DataError: as `read_stored`.
    """
    data = _bytes(path)
    sample = _sample(path, data)
    return sample, sample.entry(len(data), checksum(data))


def told_name(path: Path) -> str:
    """Read, from its header, the full name of the sample in a file whose own name was shortened; "" if the header has none."""
    if path.suffix != SUFFIX:
        return ""
    try:
        (size,) = struct.unpack("<Q", read_regular(path, 8))
        if size > LONGEST_HEADER:
            return ""
        told = json.loads(json.loads(read_regular(path, 8 + size)[8:])["__metadata__"]["name"])
    except (OSError, struct.error, ValueError, LookupError, TypeError, RecursionError):
        return ""
    return told if isinstance(told, str) else ""


def _bytes(path: Path) -> bytes:
    """Read the content of a file; it is not memory-mapped, since a file that shrinks while it is mapped kills the process."""
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise DataError(f"has {size:,} bytes, but a sample has at most {LARGEST:,}", where=str(path), remedy=redo(path))
        return read_regular(path)
    except FileNotFoundError:
        raise DataError("there is no such file", where=str(path), remedy="Run `ltx preprocess` again.") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _sample(path: Path, data: bytes) -> Stored:
    try:
        return pt.parse(data) if path.suffix == FOREIGN else _parse(data)
    except DataError as error:
        raise _with_remedy(error, path) from None
    except Exception as error:  # whatever a stranger's bytes do to torch's functions, only this file is lost
        if is_out_of_memory(error):  # which is not a fault of the file
            raise
        told = (str(error).splitlines() or [""])[0]
        raise DataError(f"cannot be read as a sample: {type(error).__name__} {told}".strip(), where=str(path), remedy=redo(path)) from error


def read_mask(path: Path) -> Tensor:
    """Read a stored mask, `[F, H, W]` or `[T]`, values in [0, 1], 1 = given.

    Raises:
        DataError: as `read_stored`, or the file holds something else.
    """
    return expect(path, read_stored(path)[0], "mask").tensors["mask"]


def expect(path: Path, sample: Stored, kind: Kind, modality: str = "") -> Stored:
    """Return the sample if it is of this kind and, if one is named, of this modality.

    Raises:
        DataError: it is not.
    """
    if sample.kind != kind or (modality and sample.modality != modality):
        raise DataError(f"holds {spoken(sample.kind, sample.modality)}, not {spoken(kind, modality)}", where=str(path))
    return sample


def spoken(kind: str, modality: str) -> str:
    """Describe a kind and a modality in words."""
    if kind == "text":
        return "text features"
    article = {"audio": "an ", "video": "a ", "": "a "}[modality] if kind == "mask" else ""
    return f"{article}{modality} {kind}".replace("  ", " ").strip()


def _metadata(sample: Stored, name: str) -> dict[str, str]:
    told: dict[str, Any] = {
        "name": json.dumps(name) if stored_name(name) != name else "",
        "kind": sample.kind,
        "modality": sample.modality,
        "rate": "" if sample.rate is None else repr(float(sample.rate)),
        "length": sample.length or "",
        "fingerprint": sample.fingerprint,
        "origin": sample.origin,
        "encoder": sample.encoder,
    }
    return {key: str(value) for key, value in told.items() if value != ""}


def _with_metadata(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """Put metadata into the header of a safetensors file, in the order of their names, since the library orders them
    differently each time.
    """
    (size,) = struct.unpack("<Q", data[:8])
    slots = json.loads(data[8 : 8 + size])
    header = json.dumps({"__metadata__": dict(sorted(metadata.items())), **slots}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return b"".join([struct.pack("<Q", len(header)), header, memoryview(data)[8 + size :]])


def _parse(data: bytes) -> Stored:
    header = _header(data)
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise DataError(f"is a damaged safetensors file: {error}") from None
    told = header.get("__metadata__", {})
    try:
        rate = float(told["rate"]) if "rate" in told else None
        length = int(told.get("length", 0))
    except ValueError:
        raise DataError(
            f"its header says rate {told.get('rate')!r} and length {told.get('length')!r}, which are not both numbers"
        ) from None
    return stored(
        tensors,
        rate=rate,
        length=length,
        fingerprint=told.get("fingerprint", ""),
        origin=told.get("origin", ""),
        encoder=told.get("encoder", ""),
    )


def _header(data: bytes) -> dict[str, Any]:
    """Read the header of a safetensors file; refuse a file that is shorter than its header says."""
    if len(data) < 8:
        raise DataError(f"is truncated or not a safetensors file: it has {len(data)} bytes")
    (size,) = struct.unpack("<Q", data[:8])
    try:
        header = json.loads(data[8 : 8 + size]) if size < len(data) else None
        ends = [] if header is None else [value["data_offsets"][1] for key, value in header.items() if key != "__metadata__"]
        whole = 8 + size + max(ends, default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError):
        header = None
    if header is None:
        raise DataError("is truncated or not a safetensors file: it has no readable header")
    if len(data) < whole:
        raise DataError(f"is truncated: {len(data)} of {whole} bytes are there")
    return dict(header)


def _with_remedy(error: DataError, path: Path) -> DataError:
    problem = attrs.evolve(error.problems[0], where=str(path), remedy=error.problems[0].remedy or redo(path))
    return DataError(problem.what, where=problem.where, remedy=problem.remedy)
