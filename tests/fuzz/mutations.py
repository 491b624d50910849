"""Files of users gone wrong: a text or bytes with something changed, and what may lie in the place of a file. All of it by a seed."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import attrs

LETTERS = [
    "a",
    " ",
    "\t",
    "\n",
    "\r\n",
    "\0",
    "\x1b",
    "é",
    "字",
    "🎬",
    "\u202e",
    "\ufeff",
    '"',
    "'",
    "\\",
    "#",
    "=",
    "[",
    "]",
    "{",
    "}",
    ",",
    ".",
    ":",
    "-",
]
WORDS = [
    "",
    " ",
    "x",
    "tiny",
    "mask",
    "video",
    "audio",
    "true",
    "..",
    ".",
    "/dev",
    "~",
    "~nobody/x",
    "media",
    "run.toml",
    "/dev/null",
    "/dev/zero",
    "/proc/self/mem",
]
WORDS += [
    "a" * 300,
    "a" * 5000,
    "a/" * 2500 + "a",
    "a\0b",
    "http://host/x",
    "C:\\clips\\a.mp4",
    "%s{}",
    "字" * 100,
    "\udcff",
    "\u202ex",
    "960x544x49",
    "0" * 5000,
]
NUMBERS = [
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "1.5",
    "-2.5",
    "1e-320",
    "1e308",
    "1e400",
    "-1e400",
    "0.0",
    "0.1e-9",
    "1_000",
    str(2**31),
    str(2**63 - 1),
    str(2**63),
    str(2**64),
]
NUMBERS += [str(10**18), str(-(10**18)), str(10**30), "9" * 400, "9" * 5000, "-" + "9" * 5000, "0x" + "f" * 20_000, "0b" + "1" * 20_000]
SPOKEN = [
    "true",
    "false",
    "nan",
    "inf",
    "-inf",
    "null",
    "None",
    "1979-05-27",
    "07:32:00",
    "1979-05-27T07:32:00Z",
    "[]",
    "{}",
    "[[]]",
    '""',
    "''",
    "[1, 2, 3]",
    "[{}]",
]
DEPTHS = [3, 40, 100, 350, 399, 900, 3000, 10_000]
VALUE = re.compile(r"""("[^"\n]*"|'[^'\n]*'|[-+]?\d[\w.+-]*|\b(?:true|false|null)\b)""")
NAME = re.compile(r"""[A-Za-z_][\w-]{2,}""")


def quoted(word: str) -> str:
    """A word as TOML, JSON and YAML write it."""
    escapes = {'"': '\\"', "\\": "\\\\", "\0": "\\u0000", "\n": "\\n", "\udcff": "\\u00ff"}
    return '"' + "".join(escapes.get(letter, letter) for letter in word) + '"'


def nested(rng: random.Random) -> str:
    """A value deep in others."""
    depth = rng.choice(DEPTHS)
    opening, closing = rng.choice([("[", "]"), ("{ a = ", " }"), ('{"a": ', "}"), ("{a: ", "}"), ("[{ a = ", " }]")])
    return opening * depth + rng.choice(["1", '"x"', ""]) + closing * (depth if rng.random() < 0.8 else depth - 1)


def value(rng: random.Random) -> str:
    """Something in place of a value."""
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(NUMBERS)
    if kind < 0.65:
        return quoted(rng.choice(WORDS))
    return rng.choice(SPOKEN) if kind < 0.9 else nested(rng)


def _some(rng: random.Random, text: str, pattern: re.Pattern[str], other: Callable[[str], str]) -> str:
    found = list(pattern.finditer(text))
    if not found:
        return text
    one = rng.choice(found)
    return text[: one.start()] + other(one[0]) + text[one.end() :]


def _lines(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(5)
    if kind == 0:
        del lines[one]
    elif kind == 1:
        lines.insert(other, lines[one])
    elif kind == 2:
        lines[one], lines[other] = lines[other], lines[one]
    elif kind == 3:
        lines[one : one + 2] = ["".join(lines[one : one + 2])]
    else:
        lines[one] = lines[one] * rng.choice([2, 50])
    return "\n".join(lines)


def _renamed(rng: random.Random, text: str) -> str:
    def other(name: str) -> str:
        at = rng.randrange(len(name))
        names = [
            name[:at] + name[at + 1 :],
            name + "_",
            name.upper(),
            f"{name}.{name}",
            ".".join(["a"] * rng.choice(DEPTHS)),
            quoted(rng.choice(WORDS)),
        ]
        return rng.choice([*names, rng.choice(NAME.findall(text))])

    return _some(rng, text, NAME, other)


def _inserted(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text) + 1)
    return (
        text[:at]
        + rng.choice(
            [
                rng.choice(LETTERS) * rng.choice([1, 2, 500]),
                value(rng),
                f"\n{value(rng)} = {value(rng)}\n",
                f"\n[{'.'.join(['a'] * rng.choice(DEPTHS))}]\n",
            ]
        )
        + text[at:]
    )


def _cut(rng: random.Random, text: str) -> str:
    start = rng.randrange(len(text) + 1)
    return text[:start] if rng.random() < 0.4 else text[:start] + text[start + rng.randrange(1, 40) :]


def _switched(rng: random.Random, text: str) -> str:
    """Tables as lists of tables, and the other way round."""
    return re.sub(r"(?m)^\[+(.*?)\]+$", lambda found: rng.choice([f"[[{found[1]}]]", f"[{found[1]}]", found[0], f"[{found[1]}.x]"]), text)


def mutated_text(rng: random.Random, text: str) -> str:
    """The text with one to four things changed."""
    for _ in range(rng.choice([1, 1, 1, 2, 3, 4])):
        ways: list[Callable[[random.Random, str], str]] = [_lines, _renamed, _inserted, _cut, _switched]
        weights = [3, 2, 2, 1, 0.5]
        way = rng.choices([_valued, *ways], [8, *weights])[0]
        text = way(rng, text)
    return text


def _valued(rng: random.Random, text: str) -> str:
    return _some(rng, text, VALUE, lambda _: value(rng))


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def mutated_bytes(rng: random.Random, data: bytes) -> bytes:
    """The bytes cut, flipped, repeated or with others among them; a third of the changes lie at the beginning, where headers are."""
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        span = len(found) if rng.random() < 0.67 else min(len(found), 512)
        at = rng.randrange(span) if span else 0
        kind = rng.random()
        if kind < 0.5 and found:
            found[at] ^= 1 << rng.randrange(8)
        elif kind < 0.65:
            found[at : at + 1] = rng.choice([b"\0" * 8, b"\xff" * 8, b"\xff\xfe", b"9" * 5000, b"[" * 10_000, rng.randbytes(64)])
        elif kind < 0.8:
            del found[at:]
        elif kind < 0.9:
            del found[at : at + rng.randrange(1, 200)]
        else:
            found[at:at] = found[at : at + 100]
    return bytes(found)


SPECIAL = ("empty", "folder", "pipe", "unreadable", "missing", "loop", "noise", "utf-16", "zeros", "dangling", "socket name")


def put(rng: random.Random, path: Path, data: bytes, text: bool | None = None) -> str:
    """Put something wrong in the place of a file, and say what.

    Args:
        path: of the file, whatever is there.
        data: what it held.
        text: whether it is changed as text is; none: where it is UTF-8.
    """
    if rng.random() < 0.12:
        kind = rng.choice(SPECIAL)
        _special(rng, path, data, kind)
        return kind
    readable = _text(data) if text is not False else None
    if readable is not None and rng.random() < 0.85:
        path.write_bytes(encoded(mutated_text(rng, readable)))
        return "text"
    path.write_bytes(mutated_bytes(rng, data))
    return "bytes"


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _special(rng: random.Random, path: Path, data: bytes, kind: str) -> None:
    contents = {"empty": b"", "noise": rng.randbytes(300), "zeros": bytes(300), "unreadable": data}
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "dangling":
        path.symlink_to("nothing")
    elif kind == "utf-16":
        path.write_bytes((_text(data) or "x").encode("utf-16"))
    elif kind in contents:
        path.write_bytes(contents[kind])
        if kind == "unreadable":
            path.chmod(0)


@attrs.frozen
class Spoiled:
    """A file with something else in its place for as long as the block lasts."""

    path: Path
    data: bytes
    mode: int

    @classmethod
    def of(cls, path: Path) -> Spoiled:
        return cls(path, path.read_bytes(), path.stat().st_mode)

    def put(self, rng: random.Random) -> str:
        self.path.unlink()
        return put(rng, self.path, self.data)

    def restore(self) -> None:
        if self.path.is_dir() and not self.path.is_symlink():
            self.path.rmdir()
        else:
            self.path.unlink(missing_ok=True)
        self.path.write_bytes(self.data)
        self.path.chmod(self.mode)
