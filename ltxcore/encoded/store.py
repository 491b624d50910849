"""Functions that store samples: one safetensors file per sample and folder, with the known facts in its header. A file is written either
completely or not at all, and with the same bytes every time.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import safetensors
import safetensors.torch
from torch import Tensor

from ltxcore.encoded import pt
from ltxcore.encoded.buffers import plain_tensors, read_buffer
from ltxcore.encoded.sample_names import FOREIGN, SUFFIX, sample_path, stored_name
from ltxcore.encoded.shards import LONGEST_HEADER, SHARD, is_shard, place_of_file, read_place
from ltxcore.encoded.stored import Stored, stored
from ltxcore.errors import DataError, Problem, is_out_of_memory
from ltxcore.files import matching, printable, read_regular, write_whole
from ltxcore.protocols import Entry, Kind, Source

MANIFESTS = "manifest*.jsonl"
"""The pattern of the manifests' names in a folder of samples. Each process of `ltx preprocess` writes one manifest."""

REDO = "Run `ltx preprocess --verify` on its dataset, which encodes damaged files again."

OWN = (
    "Write it again: latents [C, F, H, W] or [C, T, M], a mask [F, H, W] or [T] with values from 0 to 1, or values. "
    "`ltx preprocess` cannot write it, because no manifest records how it was made."
)

DAMAGED = "is damaged: its content differs from what was written"

LARGEST = 2**32
"""The maximum number of bytes of a file that is read as a sample. Minutes of video take a hundredth of this; a larger file, such as a
sparse one, would take all memory.
"""


def write_sample(root: Path, folder: str, name: str, tensors: Mapping[str, Tensor], entry: Entry) -> Entry:
    """Write a sample to `<root>/<folder>/<name>.safetensors`. The caller has to record the returned entry (`manifest.append_entry`).

    Args:
        root: the data root.
        folder: the source's folder.
        name: the sample's name, the same in every folder; it may contain "/".
        tensors: `{"latents": [C, F, H, W]}` or `[C, T, M]`; `{"mask": [F, H, W]}` or `[T]`; `{"pictures": [K, C, 1, H, W],
            "frames": [K]}`; `{"values": ...}` of any shape; or text features `[l, E]` for each modality, without padding.
        entry: an entry with the facts that tensors do not show: rate (video), fingerprint, origin, encoder and column; for text also
            `shape = (L,)`, the length that it is padded to when it is loaded.

    Returns:
        The completed entry, with shape, bytes, checksum, kind, modality, and whether all values are finite.

    Raises:
        DataError: the name leads out of the root or is that of a shard, the tensors are not a sample, or the file cannot be written.
    """
    path = sample_path(root, folder, name)
    if SHARD.fullmatch(path.name) and path.exists() and is_shard(path):
        raise DataError(
            "cannot be written, because a shard with other samples has this name", where=str(path), remedy="Give the sample another name."
        )
    length = entry.shape[0] if len(entry.shape) == 1 else 0
    try:
        sample = stored(
            tensors,
            rate=entry.rate,
            length=length,
            fingerprint=entry.fingerprint,
            origin=printable(entry.origin),
            encoder=entry.encoder,
            column=entry.column,
        )
    except DataError as error:
        raise error.at(str(path)) from None
    if entry.shape and entry.shape != sample.shape:
        raise ValueError(f"the entry of {path} says shape {entry.shape}, the tensors {sample.shape}")
    # Tensors are copied, because safetensors refuses views that share memory.
    data = safetensors.torch.save({key: tensor.detach().cpu().clone().contiguous() for key, tensor in tensors.items()})
    data = _with_metadata(data, _metadata(sample, name))
    try:
        write_whole(path, data)
    except OSError as error:
        raise DataError(
            f"cannot be written: {error.strerror}", where=str(path), remedy="Free some space, or name another data root."
        ) from error
    return sample.entry(len(data), checksum(data))


def checksum(data: bytes | memoryview) -> str:
    """Compute the `Entry.checksum` of a file with these bytes: half of the SHA-256 of the bytes. SHA-256 is fast, because processors have
    instructions for it.
    """
    return hashlib.sha256(data).hexdigest()[:32]


def damage(path: Path, entry: Entry) -> Problem | None:
    """Return the problem with the bytes of a sample's file; None if the bytes are as they were written, or if the entry has no checksum and
    the file can be read.
    """
    try:
        data = _bytes(path)
    except DataError as error:
        return error.problems[0]
    if not entry.checksum or entry.checksum == checksum(data):
        return None
    return Problem(DAMAGED, str(path), redo(path))


def redo(path: Path) -> str:
    """Return what to do about a sample's file that cannot be used. The user is never told to delete the file, since without a manifest it
    may be the only copy.
    """
    return REDO if any(matching(folder, MANIFESTS) for folder in path.absolute().parents) else OWN


def read_stored(path: Path) -> tuple[Stored, int]:
    """Read a sample, ours or ltx-trainer's (`.pt`), and return it with the size of its file in bytes.

    Raises:
        DataError: the file is missing, unreadable, truncated, or not a sample; the message names it.
    """
    data = _bytes(path)
    return _sample(path, data), len(data)


def read_listed(path: Path, name: str, source: Source, entry: Entry, check: bool) -> Stored:
    """Read a sample that was listed, and compare the size and the header of its file with its entry. The values were looked at when the
    file was written or listed, and are not looked at again unless `check` is true.

    Args:
        path: the sample's file.
        name: the sample's name.
        source: the source that the sample belongs to.
        entry: the sample's entry.
        check: whether all bytes are compared with the entry's checksum. If there is no checksum, it is made sure that all values are finite.

    Raises:
        DataError: as in `read_stored`; or the file has changed, is damaged, or holds NaN or infinite values.
    """
    data = _bytes(path)
    sample = listed(path, _sample(path, data), len(data), source, entry)
    if check and entry.checksum and checksum(data) != entry.checksum:
        raise DataError(DAMAGED, where=str(path), remedy=redo(path))
    if check and not entry.checksum and not sample.is_finite:
        raise DataError(f'the sample "{name}" holds NaN or infinite values', where=str(path), remedy=redo(path))
    return sample


def listed(path: Path, sample: Stored, size: int, source: Source, entry: Entry) -> Stored:
    """Return a sample whose file has this size in bytes, if it is as its entry says.

    Raises:
        DataError: the sample is of another kind, or it has changed since it was listed.
    """
    sample = expect(path, sample, source.kind, source.modality)
    told = {
        "size": (entry.bytes, size),
        "shape": (entry.shape, sample.shape),
        "fingerprint": (entry.fingerprint, sample.fingerprint),
        "rate": (entry.rate, sample.rate),
    }
    for what, (before, now) in told.items():
        if before != now:
            raise DataError(
                f"has changed since it was listed: its {what} was {before} and is {now}",
                where=str(path),
                remedy="Run `ltx preprocess` again, and do not change the data while a run reads it.",
            )
    return sample


def read_recorded(path: Path) -> tuple[Stored, Entry]:
    """Read a sample, and make the entry that a manifest would have for it, with the checksum of the file's present bytes.

    Raises:
        DataError: as in `read_stored`.
    """
    data = _bytes(path)
    sample = _sample(path, data)
    return sample, sample.entry(len(data), checksum(data))


def told_name(path: Path) -> str:
    """Read a sample's full name from the header of its file, for a file with a shortened name; "" if the header has none."""
    if path.suffix != SUFFIX:
        return ""
    try:
        (size,) = struct.unpack("<Q", _first_bytes(path, 8))
        if size > LONGEST_HEADER:
            return ""
        told = json.loads(json.loads(_first_bytes(path, 8 + size)[8:])["__metadata__"]["name"])
    except (OSError, struct.error, ValueError, LookupError, TypeError, RecursionError):
        return ""
    return told if isinstance(told, str) else ""


def _first_bytes(path: Path, count: int) -> bytes:
    place = None if path.exists() else place_of_file(path)
    return read_regular(path, count) if place is None else bytes(read_place(place, count, count))


def _bytes(path: Path) -> memoryview:
    """Read the content of a sample's file, which may be in a shard."""
    try:
        try:
            data = read_buffer(path, LARGEST)
        except FileNotFoundError:
            place = place_of_file(path)
            if place is None:
                raise
            data = read_place(place, LARGEST)
    except FileNotFoundError:
        raise DataError("there is no such file", where=str(path), remedy="Run `ltx preprocess` again.") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if isinstance(data, int):
        raise DataError(f"has {data:,} bytes, but a sample has at most {LARGEST:,}", where=str(path), remedy=redo(path))
    return data


def _sample(path: Path, data: memoryview) -> Stored:
    return parsed(path, lambda: pt.parse(bytes(data)) if path.suffix == FOREIGN else _parse(data))


def parsed(path: Path, parse: Callable[[], Stored]) -> Stored:
    """Return what a function makes of the content of a sample's file.

    Raises:
        DataError: the content is not a sample; the message names the file.
    """
    try:
        return parse()
    except DataError as error:
        raise _with_remedy(error, path) from None
    except Exception as error:  # foreign bytes may make torch fail in any way; only this file is then lost
        if is_out_of_memory(error):  # this is not the file's fault
            raise
        told = (str(error).splitlines() or [""])[0]
        raise DataError(f"cannot be read as a sample: {type(error).__name__} {told}".strip(), where=str(path), remedy=redo(path)) from error


def read_mask(path: Path) -> Tensor:
    """Read a stored mask, `[F, H, W]` or `[T]`, with values from 0 (generated) to 1 (given).

    Raises:
        DataError: as in `read_stored`, or the file does not hold a mask.
    """
    return expect(path, read_stored(path)[0], "mask").tensors["mask"]


def expect(path: Path, sample: Stored, kind: Kind, modality: str = "") -> Stored:
    """Return a sample if it is of this kind and, if `modality` is not "", of this modality.

    Raises:
        DataError: the sample is of a different kind or modality.
    """
    if sample.kind != kind or (modality and kind != "values" and sample.modality != modality):
        raise DataError(f"holds {spoken(sample.kind, sample.modality)}, not {spoken(kind, modality)}", where=str(path))
    return sample


def spoken(kind: str, modality: str) -> str:
    """Return the words for a kind and a modality of samples."""
    whole = {"text": "text features", "values": "values", "pictures": "pictures of clips"}.get(kind)
    if whole is not None:
        return whole
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
        "column": sample.column,
    }
    return {key: str(value) for key, value in told.items() if value != ""}


def _with_metadata(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """Put metadata into the header of a safetensors file, ordered by name, since the library's order differs each time."""
    (size,) = struct.unpack("<Q", data[:8])
    slots = json.loads(data[8 : 8 + size])
    header = json.dumps({"__metadata__": dict(sorted(metadata.items())), **slots}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return b"".join([struct.pack("<Q", len(header)), header, memoryview(data)[8 + size :]])


def _parse(data: memoryview) -> Stored:
    return sample_of(*(plain_tensors(data) or _read_by_library(bytes(data))))


def sample_of(told: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Stored:
    """Make a sample from the metadata and the tensors of its file.

    Raises:
        DataError: they are not those of a sample.
    """
    try:
        rate = float(told["rate"]) if "rate" in told else None
        length = int(told.get("length", 0))
    except ValueError:
        raise DataError(
            f"the header says rate {told.get('rate')!r} and length {told.get('length')!r}; if given, each must be a number"
        ) from None
    return stored(
        tensors,
        rate=rate,
        length=length,
        fingerprint=told.get("fingerprint", ""),
        origin=told.get("origin", ""),
        encoder=told.get("encoder", ""),
        column=told.get("column", ""),
    )


def _read_by_library(data: bytes) -> tuple[Mapping[str, str], Mapping[str, Tensor]]:
    header = _header(data)
    try:
        return header.get("__metadata__", {}), safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise DataError(f"is a damaged safetensors file: {error}") from None


def _header(data: bytes) -> dict[str, Any]:
    """Read the header of a safetensors file, and refuse a file that is shorter than its header says."""
    if len(data) < 8:
        raise DataError(f"is truncated or not a safetensors file: it has {len(data)} byte{'' if len(data) == 1 else 's'}")
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
        raise DataError(f"is truncated: only {len(data)} of {whole} bytes are there")
    return dict(header)


def _with_remedy(error: DataError, path: Path) -> DataError:
    problem = attrs.evolve(error.problems[0], where=str(path), remedy=error.problems[0].remedy or redo(path))
    return DataError(problem.what, where=problem.where, remedy=problem.remedy)
