"""The smallest change of a run file's text that sets, removes or adds one key. Comments, order and spelling of all else stay."""

from __future__ import annotations

import copy
import difflib
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tomli
import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, InlineTable, Item

from ltxcore.api import ConfigError
from ltxcore.api.config import parsed_toml, value_text

KeyPath = tuple[str | int, ...]
ELSEWHERE = "Change it in the text."


def with_value(text: str, path: KeyPath, literal: str) -> str:
    """Return a text in which a key has another value. Tables that the key needs are added.

    Args:
        text: the text of a run file.
        path: the path of the key.
        literal: the value in TOML notation, which is written as it is.

    Raises:
        ConfigError: the text is not TOML, the literal is not a value, or the change cannot be made without rewriting other lines.
    """
    value = plain_value(literal)

    def change(document: Any) -> None:
        where = _made(document, path[:-1])
        old = where[path[-1]] if path[-1] in where or isinstance(path[-1], int) else None
        if isinstance(old, Array) and isinstance(value, list):
            _change_list(old, value)
        elif isinstance(where, InlineTable) and len(path) > 1 and path[-1] not in where:
            pairs = [*((name, inner.as_string()) for name, inner in where.items()), (path[-1], literal)]
            within = ", ".join(f"{tomlkit.key(str(name)).as_string()} = {told}" for name, told in pairs)
            above: Any = _inside(document, path[:-2])
            above[path[-2]] = tomlkit.value(f"{{ {within} }}")
        else:
            where[path[-1]] = tomlkit.value(literal)

    def expect(document: Any) -> None:
        where = document
        for key, after in itertools.pairwise(path):
            where = where[key] if isinstance(key, int) else where.setdefault(key, [] if isinstance(after, int) else {})
        where[path[-1]] = value

    return _changed(text, change, expect)


def without(text: str, path: KeyPath) -> str:
    """Return a text without a key, or without an entry of a list. A list of tables that becomes empty goes too.

    Raises:
        ConfigError: the text is not TOML, or the change cannot be made without rewriting other lines.
    """

    def remove(document: Any) -> None:
        above = _inside(document, path[:-1])
        del above[path[-1]]
        if isinstance(path[-1], int) and not above:
            del _inside(document, path[:-2])[path[-2]]

    return _changed(text, remove, remove)


def with_entry(text: str, path: KeyPath, entry: dict[str, Any]) -> str:
    """Return a text in which a list of tables has one more entry, in the notation that the list has.

    Raises:
        ConfigError: the text is not TOML, or the change cannot be made without rewriting other lines.
    """

    def change(document: Any) -> None:
        above = _made(document, path[:-1])
        found = above.get(path[-1]) if isinstance(path[-1], str) else above[path[-1]]
        if isinstance(found, Array) and len(found):
            found.append(_item(entry))
            return
        table = tomlkit.table()
        for key, value in entry.items():
            table[key] = tomlkit.value(value_text(value))
        if isinstance(found, AoT):
            found.append(table)
        elif isinstance(above, InlineTable):
            above[str(path[-1])] = tomlkit.value(value_text([entry]))
        else:
            if found is not None:
                del above[path[-1]]
            entries = tomlkit.aot()
            entries.append(table)
            above[path[-1]] = entries

    def expect(document: Any) -> None:
        where = document
        for key in path[:-1]:
            where = where[key] if isinstance(key, int) else where.setdefault(key, {})
        where.setdefault(path[-1], []).append(entry)

    return _changed(text, change, expect)


def plain_value(literal: str) -> Any:
    """Return the value of a TOML literal.

    Raises:
        ConfigError: the text is not a single value.
    """
    try:
        document = tomli.loads(f"value = {literal}")
    except (ValueError, RecursionError) as error:
        said = re.sub(r" \(at .*\)$", "", str(error))
        raise ConfigError(f"{literal!r} is not a value of TOML: {said[:1].lower()}{said[1:]}", remedy="Texts are in quotes.") from error
    if document.keys() != {"value"}:
        raise ConfigError(f"{literal!r} is more than one value", remedy="Give one value.")
    return document["value"]


def is_value(literal: str) -> bool:
    """Return whether a text is a value in TOML notation."""
    try:
        plain_value(literal)
    except ConfigError:
        return False
    return True


def literal_of(control: str, given: str) -> str:
    """Return what a field of the form holds, in TOML notation.

    Args:
        control: the control of the field; see `form.Field`.
        given: the text that the user entered.

    Raises:
        ConfigError: the field does not take this text.
    """
    if control == "text":
        return value_text(given.replace("\r\n", "\n"))
    if control == "lines":
        return value_text([line.strip() for line in given.splitlines() if line.strip()])
    if control == "numbers":
        numbers = [_number(each) for each in re.split(r"[\s,;]+", given) if each]
        return f"[{', '.join(numbers)}]"
    if control == "number":
        return _number(given)
    if control == "scalar":
        try:
            return _number(given)
        except ConfigError:
            return value_text(given)
    plain_value(given)
    return given.strip()


def _number(given: str) -> str:
    """Return a number as the user wrote it, if TOML has that notation, or else as TOML does."""
    given = given.strip()
    try:
        number = float(given.replace("_", ""))
    except ValueError as error:
        raise ConfigError(f"{given!r} is not a number", remedy="Give digits, such as 16, 0.5 or 1e-4.") from error
    if not math.isfinite(number):
        raise ConfigError(f"{given!r} is not a finite number", remedy="Give digits, such as 16, 0.5 or 1e-4.")
    return given if is_value(given) and isinstance(plain_value(given), (int, float)) else value_text(number)


def _changed(text: str, change: Callable[[Any], None], expect: Callable[[Any], None]) -> str:
    """Return a text after a change, and make sure that nothing else in it has changed."""
    wanted = copy.deepcopy(parsed_toml(text, Path("run.toml")))
    try:
        expect(wanted)
        document = tomlkit.parse(text)
        change(document)
        made = _spaced(text, tomlkit.dumps(document))
        found = parsed_toml(made, Path("run.toml"))
    except (TOMLKitError, LookupError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise ConfigError("the form cannot change this", remedy=ELSEWHERE) from error
    if repr(_sorted(found)) != repr(_sorted(wanted)):
        raise ConfigError("the form cannot change this without changing other lines", remedy=ELSEWHERE)
    return made


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(each) for each in value] if isinstance(value, list) else value


def _inside(document: Any, path: Sequence[str | int]) -> Any:
    for key in path:
        document = document[key]
    return document


def _made(document: Any, path: Sequence[str | int]) -> Any:
    """Return the table at a path, and make the tables that are not there. A table that only holds the next one has no header of its own."""
    for at, key in enumerate(path):
        if isinstance(key, str) and key not in document:
            rest = path[at + 1 :]
            document[key] = tomlkit.inline_table() if isinstance(document, InlineTable) else tomlkit.table(bool(rest))
        document = document[key]
    return document


def _change_list(old: Array, new: list[Any]) -> None:
    """Change the entries of a list that differ, so that the comments and line ends of the others stay."""
    codes = difflib.SequenceMatcher(None, [repr(each) for each in old.unwrap()], [repr(each) for each in new], autojunk=False).get_opcodes()
    for tag, start, end, begin, stop in reversed(codes):
        if tag != "equal":
            common = min(end - start, stop - begin)
            for at in range(end - 1, start + common - 1, -1):
                del old[at]
            for at in range(common):
                old[start + at] = _item(new[begin + at])
            for at in range(common, stop - begin):
                old.insert(start + at, _item(new[begin + at]))


def _item(value: Any) -> Item:
    return tomlkit.value(value_text(value))


def _spaced(before: str, after: str) -> str:
    """Return the text after a change, in which the headers of added tables stand after a blank line, and so do those that follow them."""
    old, new = before.split("\n"), after.split("\n")
    lines: list[str] = []
    was_added = False
    for tag, start, end, begin, stop in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        for line in new[begin:stop]:
            is_added = tag != "equal"
            if line.startswith("[") and (is_added or was_added) and lines and lines[-1].strip():
                lines.append("")
            lines.append(line)
            was_added = is_added
        was_added = was_added or (tag == "delete" and end > start)
    return "\n".join(_ended(lines, before))


def _ended(lines: list[str], before: str) -> Iterator[str]:
    """Yield the lines with the blank lines at the end that the text had before."""
    had = len(before) - len(before.rstrip("\n"))
    while lines and not lines[-1].strip():
        lines.pop()
    yield from lines
    yield from [""] * max(had, 1)
