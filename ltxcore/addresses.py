"""Addresses, such as `s3://bucket/set`: names of folders that lie on another machine, in place of paths."""

from __future__ import annotations

import re

from ltxcore.errors import ConfigError

PATTERN = re.compile(r"(?:[a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+://", re.IGNORECASE)
"""The beginning of an address: its protocol, which has at least two letters, since `C://` is a path on Windows."""

WITH_LOGIN = "holds a login or a signature, which do not belong in files or commands"
HOW_TO_LOG_IN = (
    "Write the address alone. The library of that store finds logins where its other programs do: in environment variables such as "
    "AWS_ACCESS_KEY_ID, or in its files in your home folder."
)


class Address(str):
    """The address of an encoded set, with its protocol and without "/" at its end. It holds no login."""

    __slots__ = ()

    def __new__(cls, text: str) -> Address:
        """Make an address from a text that has the form of an address.

        Raises:
            ValueError: the text is no address, or names nothing after the protocol.
        """
        match = PATTERN.match(text)
        if match is None or not text[match.end() :].strip("/"):
            raise ValueError(f"{text} is not an address such as s3://bucket/set")
        return super().__new__(cls, text.rstrip("/"))

    @property
    def protocol(self) -> str:
        """The protocol, such as "s3"."""
        return self.partition("://")[0].rpartition("::")[2].lower()

    @property
    def name(self) -> str:
        """The last part of the address, which is the name of the set."""
        return self.rpartition("/")[2]


def address_of(text: str, where: str = "") -> Address:
    """Return the address that a text is.

    Args:
        text: the text.
        where: where the user gave it, for messages.

    Raises:
        ConfigError: the text is no address, or holds a login.
    """
    if holds_login(text):
        raise ConfigError(f"the address {WITH_LOGIN}", where=where, remedy=HOW_TO_LOG_IN)
    try:
        return Address(text)
    except ValueError as error:
        raise ConfigError(str(error), where=where) from None


def is_address(text: str) -> bool:
    """Return whether a text is an address, and not a path."""
    return PATTERN.match(text) is not None


def holds_login(text: str) -> bool:
    """Return whether an address holds a name or a password before its host, or parameters, which may be a signature."""
    rest = text.partition("://")[2]
    return "?" in rest or "@" in rest.partition("/")[0]
