"""Requests to a store are made again when they fail, but not forever, and not if that cannot help."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from helpers.slow_store import SHORT, SlowStore, reads, slow_store
from ltxcore.addresses import Address
from ltxcore.encoded import remote
from ltxcore.encoded.remote import Store
from ltxcore.errors import ConfigError, DataError

AT = Address("slow://bucket/set")


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[SlowStore]]:
    monkeypatch.setattr(remote, "WAITS", (0.0, 0.001, 0.0, 0.0))
    with slow_store() as store:
        store().pipe_file("/bucket/set/a/one", b"0123456789")
        store().pipe_file("/bucket/set/two", b"ab")
        store().pipe_file("/bucket/other", b"c")
        store.requests.clear()
        yield store


def test_files_are_listed_by_their_paths_in_one_request(system: type[SlowStore]) -> None:
    found = Store.at(AT).files()
    assert {path: file.bytes for path, file in found.items()} == {"a/one": 10, "two": 2}
    assert dict(system.requests) == {("list", "/bucket/set"): 1}
    system().pipe_file("/bucket/set/two", b"cd")
    again = Store.at(AT).files()
    assert again["a/one"] == found["a/one"]
    assert again["two"].mark != found["two"].mark
    assert again["two"].changed != found["two"].changed
    assert Store.at(Address("slow://bucket/none")).files() == {}


def test_a_part_of_a_file_is_read_in_one_request_into_memory_that_can_be_written(system: type[SlowStore]) -> None:
    data = Store.at(AT).read("a/one", 2, 3)
    assert bytes(data) == b"234"
    assert not data.readonly
    assert dict(system.requests) == {("read", "/bucket/set/a/one", 2, 5): 1}


def test_requests_that_fail_are_made_again(system: type[SlowStore]) -> None:
    system.faults.extend([OSError("503 Slow Down"), SHORT, TimeoutError(), RuntimeError("reset by peer")])
    assert bytes(Store.at(AT).read("a/one", 0, 10)) == b"0123456789"
    assert system.requests["read", "/bucket/set/a/one", 0, 10] == 5


def test_after_the_last_try_the_address_the_tries_and_what_to_do_are_told(system: type[SlowStore]) -> None:
    system.faults.extend([OSError("503 Slow Down")] * 5)
    with pytest.raises(DataError) as error:
        Store.at(AT).read("a/one", 0, 10)
    assert str(error.value) == (
        "slow://bucket/set/a/one: cannot be read after 5 tries: OSError: 503 Slow Down\n"
        "    Check the connection and the store, then run the same command again: a run resumes from its last checkpoint."
    )
    system.faults.extend([SHORT] * 5)
    with pytest.raises(DataError, match="after 5 tries: OSError: 5 bytes were received instead of 10"):
        Store.at(AT).read("a/one", 0, 10)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (FileNotFoundError("gone"), "there is no such file"),
        (PermissionError("Forbidden"), "cannot be read, because the store refuses: PermissionError: Forbidden"),
        (type("NoCredentialsError", (Exception,), {})("none found"), "because the store refuses: NoCredentialsError: none found"),
        (NotImplementedError("no"), "cannot be read: NotImplementedError: no"),
    ],
)
def test_what_waiting_does_not_change_is_told_at_once(system: type[SlowStore], fault: Exception, told: str) -> None:
    system.faults.append(fault)
    with pytest.raises(DataError, match=told):
        Store.at(AT).read("a/one", 0, 10)
    assert sum(reads(system.requests).values()) == 1


def test_a_missing_file_is_named(system: type[SlowStore]) -> None:
    with pytest.raises(DataError, match="slow://bucket/set/three: there is no such file"):
        Store.at(AT).read("three", 0, 1)


def test_a_file_is_written_again_from_its_beginning(system: type[SlowStore]) -> None:
    system.faults.append(OSError("503"))
    tries = []

    def written(out: object) -> None:
        tries.append(out)
        out.write(b"half")  # type: ignore[attr-defined]
        if len(tries) == 1:
            raise ConnectionError("lost")
        out.write(b"whole")  # type: ignore[attr-defined]

    Store.at(AT).write("new/three", written)
    assert system().cat_file("/bucket/set/new/three") == b"halfwhole"
    assert system.requests["write", "/bucket/set/new/three"] == 3


def test_an_error_of_this_machine_in_writing_is_not_the_stores(system: type[SlowStore]) -> None:
    def written(_: object) -> None:
        raise DataError("changed while it was read", where="a.safetensors")

    with pytest.raises(DataError, match=r"a\.safetensors: changed while it was read"):
        Store.at(AT).write("new/three", written)
    assert system.requests["write", "/bucket/set/new/three"] == 1


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ConfigError, match="nosuch://bucket/set: cannot be used as an address: Protocol not known: nosuch"):
        Store.at(Address("nosuch://bucket/set"))


@pytest.mark.parametrize(("protocol", "package"), [("gs", "gcsfs"), ("abfs", "adlfs")])
def test_a_missing_package_is_named_with_its_command(protocol: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError) as error:
        Store.at(Address(f"{protocol}://bucket/set"))
    assert str(error.value) == (
        f"{protocol}://bucket/set: {protocol}:// needs a package that is not installed\n    Install it: pip install {package}."
    )


def test_without_fsspec_its_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ConfigError) as error:
        Store.at(Address("s3://bucket/set"))
    assert str(error.value) == 's3://bucket/set: needs the package fsspec\n    Install it: pip install "ltx[remote]".'
