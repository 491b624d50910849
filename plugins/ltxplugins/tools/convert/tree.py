"""Parse YAML into plain values, each with its line. Nothing in the file is constructed or executed: a tag that asks for
an object is refused.

YAML 1.1 reads `1e-4` as text, `no` as false and `1:30` as ninety. Every value is therefore kept both as YAML reads it
and as it was written. The code that reads a key knows the meaning of the key, and chooses between the two forms.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.api import ConfigError
from ltxcore.api.config import excesses

if TYPE_CHECKING:
    import yaml

PREFIX = "tag:yaml.org,2002:"
SCALARS = {f"{PREFIX}{name}" for name in ("null", "bool", "int", "float", "timestamp", "str", "value", "merge")}
LIST, TABLE, MERGE = f"{PREFIX}seq", f"{PREFIX}map", f"{PREFIX}merge"

LIMIT = 20_000
"""The maximum number of values in a file. An alias counts each time it is used, because a few lines of aliases can
stand for billions of values.
"""


@attrs.frozen
class Scalar:
    """A single value in a YAML file.

    Attributes:
        line: the line in the file, from 1.
        text: the text as it was written, without quotes.
        value: the value as YAML reads it: None, a truth value, a number, a date, or text.
    """

    line: int
    text: str
    value: Any


@attrs.frozen
class Items:
    """A list in a YAML file."""

    line: int
    values: tuple[Tree, ...]


@attrs.frozen
class Table:
    """A mapping in a YAML file.

    Attributes:
        line: the line in the file, from 1.
        values: the values by key; a key that is written twice has the last value.
        lines: the lines of the keys.
        doubled: the keys that are written twice.
    """

    line: int
    values: dict[str, Tree]
    lines: dict[str, int]
    doubled: tuple[str, ...] = ()


Tree = Scalar | Items | Table


def parse(text: str, path: str) -> Tree:
    """Parse a YAML file, which holds one value.

    Args:
        text: the text of the file.
        path: the path of the file, for messages.

    Raises:
        ConfigError: the file is not YAML, is empty, or holds more than plain values.
    """
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            return _Grower(path, yaml.SafeLoader("")).grown(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or str(error).splitlines()[0]
        place = f"{path}:{mark.line + 1}" if mark is not None else path
        raise ConfigError(f"is not YAML: {said}", where=place) from error
    except RecursionError:
        raise ConfigError("is nested too deeply to be a configuration", where=path) from None
    raise ConfigError("is empty", where=path, remedy="Name a configuration of another trainer.")


@attrs.define
class _Grower:
    path: str
    constructor: yaml.SafeLoader
    count: int = 0
    inside: list[int] = attrs.field(factory=list)

    def grown(self, node: yaml.Node) -> Tree:
        import yaml

        self.count += 1
        if self.count > LIMIT:
            raise self._refused(node, f"holds more than {LIMIT:,} values", "Write them out instead of using aliases of aliases.")
        if id(node) in self.inside:
            raise self._refused(node, "holds an alias that contains itself", "Write the value out.")
        line = node.start_mark.line + 1
        if isinstance(node, yaml.ScalarNode) and node.tag in SCALARS:
            return Scalar(line, node.value, self._value(node))
        self.inside.append(id(node))
        try:
            if isinstance(node, yaml.SequenceNode) and node.tag == LIST:
                return Items(line, tuple(self.grown(inner) for inner in node.value))
            if isinstance(node, yaml.MappingNode) and node.tag == TABLE:
                return self._table(node, line)
        finally:
            self.inside.pop()
        tag = "!!" + node.tag.removeprefix(PREFIX) if node.tag.startswith(PREFIX) else node.tag
        raise self._refused(
            node, f"the tag {tag} asks for more than a plain value; it was refused, and nothing was executed", _without(tag)
        )

    def _table(self, node: yaml.MappingNode, line: int) -> Table:
        values: dict[str, Tree] = {}
        lines: dict[str, int] = {}
        doubled: list[str] = []
        for key, at, inner in self._pairs(node):
            if key in values:
                doubled.append(key)
            values[key], lines[key] = self.grown(inner), at
        for merged in self._merged(node):
            for key, value in merged.values.items():  # a key that the table itself or an earlier table sets takes precedence
                if key not in values:
                    values[key], lines[key] = value, merged.lines[key]
        return Table(line, values, lines, tuple(dict.fromkeys(doubled)))

    def _pairs(self, node: yaml.MappingNode) -> Iterator[tuple[str, int, yaml.Node]]:
        import yaml

        for key, inner in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in SCALARS:
                raise self._refused(key, "a key is not a plain word", "Write a word before the colon.")
            if key.tag != MERGE:
                yield key.value, key.start_mark.line + 1, inner

    def _merged(self, node: yaml.MappingNode) -> Iterator[Table]:
        """Yield the tables that `<<` merges into a table."""
        for key, inner in node.value:
            if key.tag == MERGE:
                grown = self.grown(inner)
                for table in grown.values if isinstance(grown, Items) else [grown]:
                    if not isinstance(table, Table):
                        raise self._refused(inner, "<< refers to something that is not a table", "Name an anchor of a table.")
                    yield table

    def _value(self, node: yaml.ScalarNode) -> Any:
        try:
            value = self.constructor.construct_object(node)
        except (ValueError, OverflowError):  # such as the date 2024-02-31
            return node.value
        for _, what, remedy in excesses(value):
            raise self._refused(node, what, remedy)
        plain = value is None or isinstance(value, (bool, int, float, str, datetime.date))
        return value if plain else node.value

    def _refused(self, node: yaml.Node, what: str, remedy: str) -> ConfigError:
        return ConfigError(what, where=f"{self.path}:{node.start_mark.line + 1}", remedy=remedy)


def _without(tag: str) -> str:
    if tag == "!!python/tuple":
        return "Remove the tag: what follows it is then a list, which means the same here."
    return "Remove the tag, and write a plain value."
