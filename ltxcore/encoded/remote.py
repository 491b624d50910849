"""The files under an address, which are read and written through fsspec, and may lie on any store that fsspec supports.

A request that fails is made again, after waits that become longer, since stores refuse a request now and then. Errors that waiting cannot
change, such as a missing file or a refused login, are reported at once.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, BinaryIO, TypeVar

import attrs

from ltxcore.addresses import Address
from ltxcore.errors import ConfigError, DataError, LtxError, is_out_of_memory
from ltxcore.logs import inform
from ltxcore.workers import READERS, in_order

T = TypeVar("T")

WAITS = (0.5, 1.0, 2.0, 4.0)
"""The seconds to wait between the tries of a request; there is one more try than there are waits. Each wait is up to half shorter or
longer, so that processes that failed together do not come back together.
"""

PACKAGES = {
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "gcs": "gcsfs",
    "gs": "gcsfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "s3a": "s3fs",
    "sftp": "paramiko",
    "ssh": "paramiko",
}
"""The package that fsspec needs for a protocol. For the others, its own message names it."""

MARKS = (
    *("ETag", "etag", "md5Hash", "content_md5", "crc32c", "generation", "blob_id"),
    *("LastModified", "last_modified", "Last-Modified", "updated", "mtime", "created"),
)
"""The facts that change with a file, by the names that different stores give them."""

FINAL = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, NotImplementedError, ImportError)
"""The errors that a further try would meet again."""

RANDOM = secrets.SystemRandom()
"""Random numbers for the waits, apart from those that seeds determine."""


@attrs.frozen
class RemoteFile:
    """A file under an address.

    Attributes:
        bytes: its size.
        mark: a hash of the facts that the store reports about the last change, such as ETag and time; it differs for different content.
    """

    bytes: int
    mark: str

    @property
    def changed(self) -> int:
        """A number that stands for the last change, in place of the time that a local file has."""
        return int(self.mark[:12], 16)


@attrs.frozen(eq=False)
class Store:
    """The files under an address.

    Attributes:
        address: the address.
        system: the file system of fsspec.
        root: the address as the file system writes it.
    """

    address: Address
    system: Any
    root: str

    @classmethod
    def at(cls, address: Address) -> Store:
        """Return the files under an address. No request is made.

        Raises:
            ConfigError: fsspec does not know the protocol, or lacks a package for it.
        """
        try:
            import fsspec.core
        except ImportError:
            raise ConfigError("needs the package fsspec", where=address, remedy='Install it: pip install "ltx[remote]".') from None
        try:
            system, root = fsspec.core.url_to_fs(address)
        except ImportError as error:
            package = PACKAGES.get(address.protocol)
            told = f"Install it: pip install {package}." if package else f"fsspec says: {error}"
            raise ConfigError(f"{address.protocol}:// needs a package that is not installed", where=address, remedy=told) from error
        except ValueError as error:
            raise ConfigError(f"cannot be used as an address: {error}", where=address) from error
        return cls(address, system, root.rstrip("/"))

    def files(self) -> dict[str, RemoteFile]:
        """List all files under the address by their paths relative to it, sorted; empty if there is nothing.

        Raises:
            DataError: the store refuses, or does not answer.
        """

        def found() -> Mapping[str, Mapping[str, Any]]:
            self.system.invalidate_cache()
            try:
                infos: Mapping[str, Mapping[str, Any]] = self.system.find(self.root, detail=True)
            except FileNotFoundError:
                return {}
            return {path: info for path, info in infos.items() if info.get("type") != "directory" and not path.endswith("/")}

        listed = attempted(self.address, found)
        # Web servers list names alone.
        bare = [path for path, info in listed.items() if info.get("size") is None]
        full = in_order(lambda path: attempted(path, lambda: self.system.info(path)), bare, READERS if bare else 0)
        infos = {**listed, **dict(zip(bare, full, strict=True))}
        return {path[len(self.root) :].lstrip("/"): _file(infos[path]) for path in sorted(infos)}

    def read(self, path: str, begin: int, size: int) -> memoryview:
        """Read bytes of a file in one request, into memory that can be written.

        Args:
            path: the path relative to the address.
            begin: the number of bytes before them.
            size: the number of bytes.

        Raises:
            DataError: the file cannot be read, or has fewer bytes.
        """

        def read() -> bytes:
            data: bytes = self.system.cat_file(f"{self.root}/{path}", start=begin, end=begin + size) if size else b""
            if len(data) != size:
                raise OSError(f"{len(data):,} bytes were received instead of {size:,}")
            return data

        return memoryview(bytearray(attempted(f"{self.address}/{path}", read)))

    def write(self, path: str, written: Callable[[BinaryIO], object]) -> None:
        """Write a file. After an error, it is written again from its beginning.

        Args:
            path: the path relative to the address.
            written: a function that writes the content into an open file.

        Raises:
            DataError: the file cannot be written.
        """

        def write() -> None:
            self.system.makedirs(f"{self.root}/{path}".rpartition("/")[0], exist_ok=True)
            with self.system.open(f"{self.root}/{path}", "wb") as file:
                written(file)

        attempted(f"{self.address}/{path}", write, "written")


def attempted(where: str, work: Callable[[], T], what: str = "read") -> T:
    """Return the result of a request, which is tried several times.

    Args:
        where: what the request is about, for messages.
        work: a function that makes the request.
        what: the action that failed, for messages.

    Raises:
        DataError: the request was refused, or every try failed; the message names the number of tries and the last error.
    """
    tries = len(WAITS) + 1
    for number, wait in enumerate((*WAITS, None), 1):
        try:
            return work()
        except LtxError:
            raise
        except Exception as error:  # the libraries of different stores have no class of errors in common
            told = " ".join(f"{type(error).__name__}: {error}".split())
            if is_out_of_memory(error):
                raise
            if isinstance(error, FileNotFoundError):
                raise DataError("there is no such file", where=where, remedy="Check whether the set was removed or moved.") from error
            if isinstance(error, PermissionError) or "Credential" in type(error).__name__:
                remedy = "Log in as the library of that store expects it, for example with AWS_PROFILE, and check what the login may do."
                raise DataError(f"cannot be {what}, because the store refuses: {told}", where=where, remedy=remedy) from error
            if isinstance(error, FINAL):
                raise DataError(f"cannot be {what}: {told}", where=where) from error
            if wait is None:
                remedy = "Check the connection and the store, then run the same command again: a run resumes from its last checkpoint."
                raise DataError(f"cannot be {what} after {tries} tries: {told}", where=where, remedy=remedy) from error
            if number > 1:
                inform(f"{where}: try {number} of {tries} failed ({told}), and the next follows")
            time.sleep(wait * RANDOM.uniform(0.5, 1.5))
    raise AssertionError("the last try returns or raises")


def _file(info: Mapping[str, Any]) -> RemoteFile:
    told = {name: str(info[name]) for name in MARKS if info.get(name) is not None}
    size = int(info["size"] or 0)
    return RemoteFile(size, sha256(repr((size, told)).encode()).hexdigest()[:32])
