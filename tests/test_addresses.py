"""Addresses in place of paths."""

from __future__ import annotations

import pytest

from ltxcore.addresses import Address, address_of, holds_login, is_address
from ltxcore.errors import ConfigError


@pytest.mark.parametrize("text", ["s3://bucket/set", "gs://bucket", "https://host/a/b", "memory://set", "hf://datasets/me/set"])
def test_addresses_are_told_from_paths(text: str) -> None:
    assert is_address(text)
    assert address_of(text) == text


@pytest.mark.parametrize("text", ["set", "/data/set", "./s3/set", "C://data/set", "C:\\data", "~/set", "s3:/bucket"])
def test_paths_are_no_addresses(text: str) -> None:
    assert not is_address(text)
    with pytest.raises(ConfigError, match="is not an address such as s3://bucket/set"):
        address_of(text)


def test_an_address_has_a_protocol_and_a_name() -> None:
    found = Address("S3://bucket/films/set/")
    assert (found, found.protocol, found.name) == ("S3://bucket/films/set", "s3", "set")
    with pytest.raises(ValueError, match="s3:// is not an address"):
        Address("s3://")


@pytest.mark.parametrize("text", ["https://me:word@host/set", "s3://key@bucket/set", "https://host/set?X-Amz-Signature=abcdef"])
def test_logins_are_refused_and_not_repeated(text: str) -> None:
    assert holds_login(text)
    with pytest.raises(ConfigError, match="holds a login or a signature") as error:
        address_of(text, "--to")
    assert not any(secret in str(error.value) for secret in ("word", "key@", "abcdef"))


def test_a_sign_of_a_login_after_the_host_is_none() -> None:
    assert not holds_login("s3://bucket/set@home")
