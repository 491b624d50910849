"""Hide what must not be disclosed: passwords, keys and tokens everywhere, and the path of a user's home folder in
everything that leaves the machine.

Secrets are recognized by their form (the password or a key in an address, or the format of a service's tokens), by the
name that they are assigned to, and by their value, if the environment or the user has supplied it. Every message to a
user passes through `redacted` (`ltxcore.errors.Problem`), the run file in an output folder passes through
`without_secrets`, and everything that other people may see (a page, a model card, a tracker, a LoRA) passes through
`leaving`.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HIDDEN = "***"
"""The text that replaces a secret."""

SHORTEST = 8
"""The minimum length of a secret in the environment. A shorter value may be an ordinary word."""

SHORTEST_TOLD = 6
"""The minimum length of a value that was given as a secret. For a server that needs no key, users write "none"."""

_TOLD: set[str] = set()
_ADDRESSES: dict[str, str] = {}

_NAMES = (
    r"(?:[\w.-]{0,64}[_.-])?(?:api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key|(?:api|access|auth|refresh|bearer|hf)[_-]?token"
    r"|client[_-]?secret|secret|password|passwd|passphrase)"
)
_IS_NAME = re.compile(_NAMES, re.IGNORECASE)
_VARIABLE = re.compile(r"(?:.*_)?(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE)", re.IGNORECASE)
"""The pattern of the names of environment variables that hold a secret."""

_WRITTEN = (
    # scheme://user:password@host
    (re.compile(r"([a-z][a-z0-9+.-]{0,15}://)[^\s/?#\"'<>]+@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    # ?token=... in an address
    (
        re.compile(
            r"([?&;](?:[\w.-]{0,64}(?:token|key|secret|password|passwd|signature|credential)|sig|auth)=)[^&;\s\"'<>#]+", re.IGNORECASE
        ),
        rf"\1{HIDDEN}",
    ),
    # name=value, name = "value", "name": "value"
    (re.compile(rf"(?<![\w.-])({_NAMES}\s*=\s*[\"']?)(?!\*\*\*)[^\s\"',;&}}\]]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"([\"']{_NAMES}[\"']\s*:\s*[\"'])[^\"']+", re.IGNORECASE), rf"\1{HIDDEN}"),
    # Authorization: Bearer ...
    (re.compile(r"(\bauthorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token)\s+)?+)[^\s\"',}]{4,}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(Bearer)\s+(?=\S*\d)[\w.~+/=-]{12,}"), rf"\1 {HIDDEN}"),
    # tokens of the Hugging Face Hub, OpenAI and others, GitHub, GitLab, Slack, Amazon
    (
        re.compile(
            r"(?<![\w-])(?:hf_[A-Za-z0-9]{16,}|sk-[\w-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abp]-[\w-]{10,}|AKIA[0-9A-Z]{16})"
        ),
        HIDDEN,
    ),
)

_PASSWORDS = re.compile(r"://[^\s/?#@:]*:([^\s/?#\"'<>]+)@")

_NAME = r"[^/\\\s\"'<>,;:()\[\]]+"
_HOMES = re.compile(
    rf"(?<![\w.~/-])/(?:home|Users)/{_NAME}|(?<![\w.~/\\-])[A-Za-z]:[/\\]{{1,2}}Users[/\\]{{1,2}}{_NAME}(?:(?: {_NAME}){{1,3}}(?=[/\\]))?"
)
"""The pattern of any user's home folder, since a path may come from another machine with another system. JSON doubles a
backslash, and a user name on Windows may contain spaces.
"""


def hide(secret: str | None) -> None:
    """Hide a secret, which a user gave or which was read from a file of logins, in all later messages."""
    if secret and len(secret) >= SHORTEST_TOLD:
        _TOLD.add(secret)


def hide_those_of(value: Any) -> None:
    """Hide the secrets of a run file in all later messages: values under keys that mark them as secret, and passwords
    in addresses.
    """
    for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
        if isinstance(inner, (Mapping, list)):
            hide_those_of(inner)
        elif _is_secret(key, inner):
            hide(inner)
        elif isinstance(inner, str):
            for password in _PASSWORDS.findall(inner):
                hide(password)


def stands_for(folder: str, address: str) -> None:
    """Name a folder by its address in all later messages, because the folder is a mirror of the set at that address."""
    _ADDRESSES[folder] = address


def redacted(text: str) -> str:
    """Return a text with its secrets hidden, and with addresses in place of the folders that are their mirrors."""
    for folder, address in _ADDRESSES.items():
        text = text.replace(folder, address)
    known = _known() if len(text) >= SHORTEST_TOLD else None  # a page has thousands of shorter texts, none of which can hold a secret
    if known is not None:
        text = known.sub(HIDDEN, text)
    for pattern, instead in _WRITTEN:
        text = pattern.sub(instead, text)
    return text


def without_secrets(value: Any) -> Any:
    """Return tables, lists and texts with their secrets hidden. A text under a key that marks it as secret is hidden
    completely.
    """
    if isinstance(value, Mapping):
        return {key: HIDDEN if _is_secret(key, inner) else without_secrets(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(inner) for inner in value]
    return redacted(value) if isinstance(value, str) else value


def is_hidden(key: object, value: object) -> bool:
    """Return whether `without_secrets` has hidden a secret in this value."""
    if not isinstance(value, str) or HIDDEN not in value:
        return False
    return value == HIDDEN or re.search(r"://\*\*\*@|[?&;][\w.-]+=\*\*\*", value) is not None


def leaving(value: Any) -> Any:
    """Return tables, lists and texts in a form that other people may see: without secrets, and with `~` for every home
    folder.
    """
    if isinstance(value, Mapping):
        return {key: HIDDEN if _is_secret(key, inner) else leaving(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [leaving(inner) for inner in value]
    return _homeless(redacted(value)) if isinstance(value, str) else value


def _is_secret(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, str) and bool(value) and _IS_NAME.fullmatch(key) is not None


def _known() -> re.Pattern[str] | None:
    """Return a pattern that matches every secret whose value is known; None if there is none."""
    found = {os.environ[name] for name in os.environ if _VARIABLE.fullmatch(name)}
    return _pattern(frozenset({value for value in found if _may_be_secret(value)} | _TOLD))


def _may_be_secret(value: str) -> bool:
    """Return whether the value of a variable can be a secret. An ordinary word, or the path of a file that holds a
    secret, cannot be one.
    """
    return len(value) >= SHORTEST and not value.startswith(("/", "~", ".")) and not any(map(str.isspace, value)) and not value.isalpha()


@functools.lru_cache(maxsize=8)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(re.escape(secret) for secret in sorted(secrets, key=len, reverse=True))) if secrets else None


def _homeless(text: str) -> str:
    for home in _own_homes(os.environ.get("HOME", "")):
        if home in text:
            text = re.sub(rf"'{re.escape(home)}/", "~/'", text)  # a shell expands ~ only outside quotes
            text = re.sub(rf"(?<![\w.-]){re.escape(home)}(?=[/\s\"'<>,;:()\[\]]|$)", "~", text)
    return _HOMES.sub("~", text)


@functools.lru_cache(maxsize=8)
def _own_homes(told: str) -> tuple[str, ...]:
    """Return the paths of this user's home folder: as given, and with links resolved; empty if there is no home folder."""
    homes = (told.rstrip("/"), str(Path(told).resolve())) if told.startswith("/") else ()
    return tuple(home for home in dict.fromkeys(homes) if home.strip("/"))
