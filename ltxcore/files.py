"""Write files so that they are either complete or absent: each is written under a temporary name in the same folder,
synced to disk, and then renamed. This module also finds names that a file system accepts, and says why a path cannot be
read.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ltxcore.errors import Problem

UNFINISHED = ".unfinished"

LONGEST_NAME = 255
"""The maximum length of a file name, in bytes, on the file systems in use."""

LONGEST_ENDING = 16
"""The maximum length, in bytes, of an extension that the temporary file keeps. A longer ending is not an extension but
part of the name.
"""

LONGEST_PATH = 4095
"""The maximum length of a path in bytes, without the terminating zero byte."""

MARK = "~"
DIGITS = 32
"""The number of digits of the hash at the end of a shortened name."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Return a context that provides a temporary path beside `path` to write to. At the end, the new file replaces
    `path`; after an error, the temporary file is removed.

    The temporary path has the extension of `path`, since libraries that write media choose the format by the extension.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix if len(os.fsencode(path.suffix)) <= LONGEST_ENDING else ""
    writer = f".{os.getpid()}-{threading.get_ident()}{UNFINISHED}{ending}"
    beside = path.with_name(f".{fitted(path.name.removesuffix(ending), len(os.fsencode(writer)) + 1)}{writer}")
    try:
        yield beside
        sync(beside)
        beside.replace(path)
        sync(path.parent)
    finally:
        with contextlib.suppress(OSError):  # after the rename there is nothing to remove
            beside.unlink(missing_ok=True)


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Return a context that provides a temporary folder beside `folder` to write to. At the end, the new folder is
    renamed to `folder`, so that a killed process leaves no folder that looks complete.

    Raises:
        OSError: the disk is full, or the folder cannot be written; the temporary folder is removed.
    """
    beside = folder.with_name(f".{fitted(folder.name, len(UNFINISHED) + 1)}{UNFINISHED}")
    shutil.rmtree(beside, ignore_errors=True)  # left by a process that was killed
    try:
        beside.mkdir(parents=True)
        yield beside
        for path in [*beside.rglob("*"), beside]:
            sync(path)
        beside.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)  # after the rename there is nothing to remove


def is_file(path: Path) -> bool:
    """Return whether a path leads to a file. For a name that the file system does not accept, return False, whereas
    `Path.is_file` raises an error.
    """
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Return whether a path leads to a folder; False for a name that the file system does not accept."""
    try:
        return path.is_dir()
    except OSError:
        return False


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return the paths in a folder whose names match a pattern, sorted; none if there is no such folder, or if it may not
    be read. `Path.glob` makes an object for every file of the folder first: a quarter of a gigabyte for a million samples.

    Raises:
        OSError: the folder cannot be read for another reason.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if fnmatch.fnmatchcase(entry.name, pattern))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader always finds either the complete old file or the complete new file, even
    after a crash.

    Raises:
        OSError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    with replacing(path) as beside:
        beside.write_bytes(data)


def fitted(name: str, beside: int = 0) -> str:
    """Return a name that a file system accepts: the name itself or, if it is too long, its beginning, followed by a
    mark and a hash of the whole name.

    Args:
        name: the name of a file or folder, without the folders above it.
        beside: the number of bytes that will be added before and after the name.
    """
    data, room = os.fsencode(name), LONGEST_NAME - beside
    if len(data) <= room:
        return name
    # A letter that was cut in the middle is dropped; bytes that are not text are kept.
    begin = data[: room - DIGITS - len(MARK)].decode("utf-8", "ignore" if _is_text(name) else "surrogateescape")
    return f"{begin}{MARK}{hashlib.sha256(data).hexdigest()[:DIGITS]}"


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def read_regular(path: Path, most: int | None = None) -> bytes:
    """Read the content of an ordinary file. A device or a named pipe is refused without being opened, since reading a
    pipe may wait forever.

    Args:
        path: the file.
        most: the maximum number of bytes to read, from the beginning; None for all bytes.

    Raises:
        OSError: the file cannot be read, or is not an ordinary file.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # for a folder, the system's error is clearer
        raise OSError(errno.EINVAL, "it is a named pipe or a device, not an ordinary file", str(path))
    with path.open("rb") as file:
        return file.read() if most is None else file.read(most)


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}


def is_of_disk(error: OSError) -> bool:
    """Return whether an error concerns a file or a disk, rather than a connection or a pipe to another program."""
    return error.errno is not None and error.errno != errno.EPIPE and not isinstance(error, ConnectionError | TimeoutError)


def not_written(error: OSError, where: Path | str, then: str) -> Problem:
    """Describe an error that occurred in writing, and what to do about it.

    Args:
        error: the error that ended the writing.
        where: the file to name if the error does not name one.
        then: the end of a sentence that says what happens if the same command is run again.
    """
    named = error.filename if isinstance(error.filename, str) and error.filename else str(where)
    place = re.sub(rf"(^|/)\.([^/]+?)(\.\d+-\d+)?{re.escape(UNFINISHED)}(\.\w+)?(?=/|$)", r"\1\2\4", named)
    remedy = "Check whether the disk is damaged"
    if error.errno in _FULL:
        remedy = "Free some space on that disk, or have your quota there raised"
    elif error.errno in _FORBIDDEN:
        remedy = "Check that you have permission to write to this path"
    elif error.errno in _GONE:
        remedy = "Check that the disk is connected, and that nothing removes or moves what is written"
    return Problem(f"cannot be written: {error.strerror or error}", place, f"{remedy}, then run the same command again: {then}.")


def text_in(path: Path) -> str:
    """Read the text of an ordinary UTF-8 file with `read_regular`, and drop a byte order mark.

    Raises:
        OSError: the file cannot be read, or is not an ordinary file.
        UnicodeDecodeError: the file is not UTF-8.
    """
    try:
        return read_regular(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise
    except ValueError as error:  # the path has a name that no file can have
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error


def why_unread(error: OSError) -> str:
    """Say why a file could not be read, in words that can follow the name of the file."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return f"cannot be read: {error.strerror or error}"


def why_no_path(path: Path) -> str:
    """Say why no file can have this path; "" if a file can have it."""
    if "\0" in str(path):
        return "contains a zero byte, which no file name can contain"
    try:
        long = next((name for name in path.parts if len(os.fsencode(name)) > LONGEST_NAME), None)
        length = len(os.fsencode(path))
    except UnicodeEncodeError:  # half of a UTF-16 surrogate pair
        return "contains an invalid character, which no file name can contain"
    if long is not None:
        return (
            f'the name "{long[:40]}..." is too long: it has {len(os.fsencode(long)):,} bytes, but a file\'s name has at most {LONGEST_NAME}'
        )
    return "" if length <= LONGEST_PATH else f"the path is too long: it has {length:,} bytes, but a path has at most {LONGEST_PATH:,}"


def path_from(start: Path, text: str) -> Path:
    """Return the absolute path for a path that is written relative to `start`.

    Raises:
        ValueError: no file can have this path, or it begins with the home folder of an unknown user.
    """
    try:
        path = Path(os.path.normpath(start / Path(text).expanduser()))
    except RuntimeError as error:
        raise ValueError(f"there is no home folder {Path(text).parts[0][:40]}") from error
    fault = why_no_path(path)
    if fault:
        raise ValueError(fault)
    return path


def relative(path: Path, folder: Path) -> str:
    """Return a path relative to `folder`, with "/" between its parts. A path on a different Windows drive is returned
    unchanged.
    """
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.as_posix()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk.

    Windows can wait only for files that are open for writing, and not for folders.
    """
    windows = sys.platform == "win32"
    if windows and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_unfinished(folder: Path, older_than: float = 3600.0) -> int:
    """Remove the half-written files that killed processes left under a folder, and return their number.

    Args:
        folder: the folder to search, including all folders in it.
        older_than: the minimum number of seconds since the last write; another process may still be writing a younger
            file.
    """
    removed = 0
    now = _now(folder)
    for path in [*_unfinished(folder)]:
        with contextlib.suppress(OSError):  # another process may have renamed or removed the file meanwhile
            if now - path.stat().st_mtime > older_than:
                path.unlink()
                removed += 1
    return removed


def _unfinished(folder: Path | str) -> Iterator[Path]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:  # one that cannot be read is left alone
        for entry in entries:
            if entry.name.startswith(".") and UNFINISHED in entry.name:
                yield Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                yield from _unfinished(entry.path)


def _now(folder: Path) -> float:
    """Return the time by the clock of a folder's file system, which may be on another machine."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # nothing can be written there
        return time.time()


_OTHER_THINGS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)


def why_unreadable(path: Path) -> str:
    """Say why the file at a path cannot be read, in words that can follow "it": "is not there", "is a pipe, not a
    file", "cannot be read: Permission denied". Return "" if the file can be read. Nothing is opened, since opening a
    pipe would wait for its writer.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: the path has a name that no file can have
        return "is not there"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    for is_one, name in _OTHER_THINGS:
        if is_one(mode):
            return f"is a {name}, not a file"
    return "" if os.access(path, os.R_OK) else f"cannot be read: {os.strerror(errno.EACCES)}"


def why_not_writable(path: Path, inside: Path | str = "") -> str:
    """Say why a folder cannot be created or, if it exists, cannot be written; "" if no reason is known. Nothing is
    created or written to find out.

    Args:
        path: the folder, absolute.
        inside: the longest name of a file to be written in the folder.
    """
    try:
        (path / inside).stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # reported below
        pass
    except (OSError, ValueError) as error:  # too long, or circular links; a zero byte
        return f"{str(path)[:200]!r} is not a valid folder name: {getattr(error, 'strerror', None) or error}"
    there = path
    while not os.path.lexists(there):
        if len(os.fsencode(there.name)) > LONGEST_NAME:
            return f"{there.name[:60]}... is too long a name for a folder"
        there = there.parent
    if not is_folder(there):
        return f"{there} is {'a file' if is_file(there) else 'there'}, not a folder"
    effective = os.access in os.supports_effective_ids
    if not os.access(there, os.W_OK | os.X_OK | (os.R_OK if there == path else 0), effective_ids=effective):
        reason = "its file system is read-only" if _is_read_only(there) else "it belongs to another user, or is protected"
        return f"{there} cannot be written: {reason}"
    return ""


def _is_read_only(path: Path) -> bool:
    return hasattr(os, "statvfs") and bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def printable(name: str) -> str:
    """Return a file's name as text that can be printed and stored. Bytes that are not text are spelled out."""
    return name.encode("utf-8", "backslashreplace").decode()
