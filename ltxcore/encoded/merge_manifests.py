"""Merge the manifests that several processes wrote.

Afterwards, the manifest of a folder is the same as if one process had encoded all samples, except for the times in it.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path

from ltxcore.encoded.listing import list_folder
from ltxcore.encoded.manifest import manifest_name
from ltxcore.encoded.manifest_lines import Line, read_lines, write_lines
from ltxcore.encoded.store import MANIFESTS
from ltxcore.errors import DataError, ProcessError
from ltxcore.files import matching
from ltxcore.writer import writing


def merge_manifests(root: Path, folders: Collection[str], own: int) -> None:
    """Merge the manifests of each folder, and sort their lines by the names of the samples.

    Nothing happens if another process has begun to write meanwhile; it merges them when it is done.

    Args:
        root: the data root.
        folders: the folders.
        own: the number of this process, the only one that writes to the root.

    Raises:
        DataError: a manifest cannot be read or written.
    """
    for folder in sorted(folders):
        paths = matching(root / folder, MANIFESTS)
        whole = root / folder / manifest_name(0)
        numbers = {path.stem.removeprefix("manifest-") for path in (whole, *paths)}
        try:
            with ExitStack() as stack:
                for number in sorted(numbers - {str(own)}):
                    if number.isdecimal():  # a process that begins now takes another number
                        stack.enter_context(writing(root, rank=int(number)))
                _merge(root / folder, paths, whole)
        except ProcessError:
            return
        except OSError as error:
            raise DataError(f"cannot be written: {error.strerror}", where=str(error.filename or whole)) from error


def _merge(folder: Path, paths: Collection[Path], whole: Path) -> None:
    lines: dict[str, list[Line]] = {}
    ordered = list[str]()
    for path in paths:
        read = [*read_lines(path)]
        ordered += [line.name for line in read]
        for line in {line.name: line for line in read}.values():  # within a manifest, the later line counts
            lines.setdefault(line.name, []).append(line)
    removed = any(line.removed for each in lines.values() for line in each)
    if [*paths] == [whole] and ordered == sorted(set(ordered)) and not removed:
        return
    unclear = [name for name, each in lines.items() if any(line.entry != each[0].entry or line.removed for line in each)]
    listed = list_folder(folder, unclear, remember=False).entries if unclear else {}
    found = []
    for name in sorted(lines):
        newest = max(lines[name], key=lambda line: line.time)
        same = [line for line in lines[name] if not line.removed and line.entry == listed.get(name)]
        chosen = max(same, key=lambda line: line.time) if same else newest
        if not chosen.removed:
            found.append(chosen)
    write_lines(whole, found)
    for path in paths:
        if path != whole:
            path.unlink(missing_ok=True)
