"""The line of each key in a TOML file, since the TOML parser does not report lines.

The scanner reads text that the parser has already accepted, so it only has to know where keys and values begin and end.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import tomli

from ltxcore.config.reading import KeyPath


@attrs.frozen
class Lines:
    """The lines of key paths, counted from 1."""

    known: Mapping[KeyPath, int]

    def of(self, path: KeyPath) -> int:
        """Return the line of a key or, if the file lacks it, of the nearest table around it; 1 if the file has neither."""
        for length in range(len(path), 0, -1):
            line = self.known.get(path[:length])
            if line is not None:
                return line
        return 1


def locate(text: str) -> Lines:
    """Find every key of a TOML document: in tables, dotted keys and arrays of tables, and in arrays and inline tables of any
    number of lines.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    with contextlib.suppress(IndexError, ValueError, RecursionError):  # the lines found so far still give the nearest table
        scanner.document()
    return Lines(scanner.known)


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text + "\n"
        self.at = 0
        self.known: dict[KeyPath, int] = {}
        self.starts = [0, *(i + 1 for i, character in enumerate(self.text) if character == "\n")]
        self.lengths: dict[KeyPath, int] = {}  # of arrays of tables

    @property
    def line(self) -> int:
        return bisect.bisect_right(self.starts, self.at)

    def document(self) -> None:
        table: KeyPath = ()
        while self._skip_blank():
            if self.text.startswith("[[", self.at):
                table = self._header("]]")
            elif self.text[self.at] == "[":
                table = self._header("]")
            else:
                self._pair(table)

    def _header(self, end: str) -> KeyPath:
        line = self.line
        self.at += len(end)
        parts = self._key("]")
        self.at += len(end)
        path = self._inside_arrays(parts[:-1])
        for length in range(1, len(path) + 1):
            self.known.setdefault(path[:length], line)
        path = (*path, parts[-1])
        if end == "]]":
            index = self.lengths.get(path, 0)
            self.lengths[path] = index + 1
            self.known.setdefault(path, line)
            path = (*path, index)
        self.known[path] = line
        return path

    def _inside_arrays(self, parts: KeyPath) -> KeyPath:
        """Return the path of a dotted table name, in which an array of tables stands for its last element."""
        path: KeyPath = ()
        for part in parts:
            path = (*path, part)
            if path in self.lengths:
                path = (*path, self.lengths[path] - 1)
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self.line
        path = table
        for part in self._key("="):
            path = (*path, part)
            self.known.setdefault(path, line)
        self.at += 1
        self._value(path)

    def _key(self, end: str) -> KeyPath:
        """Return the parts of a dotted key that ends at `end`, with quotes removed by the parser."""
        start = self.at
        while self.text[self.at] != end:
            self._string() if self.text[self.at] in "\"'" else self._step()
        return tuple(_parts(tomli.loads(f"{self.text[start : self.at].strip()} = 0")))

    def _value(self, path: KeyPath) -> None:
        while self.text[self.at] in " \t":
            self._step()
        opening = self.text[self.at]
        if opening in "\"'":
            self._string()
        elif opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            while self.text[self.at] not in ",]}\n#":
                self._step()

    def _array(self, path: KeyPath) -> None:
        self._step()
        index = 0
        while self._skip_blank() and self.text[self.at] != "]":
            self.known.setdefault((*path, index), self.line)
            self._value((*path, index))
            index += 1
            self._skip_comma()
        self._step()

    def _inline_table(self, path: KeyPath) -> None:
        self._step()
        while self._skip_blank() and self.text[self.at] != "}":
            self._pair(path)
            self._skip_comma()
        self._step()

    def _skip_comma(self) -> None:
        if self._skip_blank() and self.text[self.at] == ",":
            self._step()

    def _skip_blank(self) -> bool:
        """Skip white space, line ends and comments, and return whether any text is left."""
        while self.at < len(self.text):
            if self.text[self.at] == "#":
                self.at = self.text.index("\n", self.at)
            elif not self.text[self.at].isspace():
                return True
            else:
                self._step()
        return False

    def _string(self) -> None:
        quote = self.text[self.at]
        long = self.text.startswith(quote * 3, self.at)
        mark = quote * 3 if long else quote
        self.at += len(mark)
        while not self.text.startswith(mark, self.at):
            self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
            if self.at >= len(self.text):
                raise IndexError
        self.at += len(mark)
        while long and self.text[self.at] == quote:  # a long string may end in up to two quotes of its own
            self._step()

    def _step(self) -> None:
        self.at += 1


def _parts(nested: Any) -> Iterator[str]:
    while isinstance(nested, dict):
        ((part, nested),) = nested.items()
        yield part
