"""The form of a run file, made from the schema that `ltx schema` prints and the values of the file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs

from ltxcore.api.config import value_text

Schema = Mapping[str, Any]
KeyPath = tuple[str | int, ...]
Control = Literal["choice", "switch", "number", "text", "scalar", "lines", "numbers", "literal", "table", "tables"]
LONG = 60
"""The number of characters of a text above which its field has several lines."""
NOTHING: Schema = {}


@attrs.frozen
class Field:
    """A key of a run file as the form shows it.

    Attributes:
        path: the path of the key.
        control: how it is edited: "choice" (one of `choices`), "switch", "number", "text", "scalar" (a number or a text), "lines" (a list of
            texts), "numbers" (a list of numbers), "literal" (any value, in TOML notation), "table" (with `fields`) or "tables" (a list, with
            an entry in `fields` for each table).
        about: what the key is for, with its unit.
        value: the text that the field shows if the file has the key.
        default: the value that applies if the file lacks the key; "" if there is no fixed default.
        is_set: whether the file has the key.
        is_required: whether the file must have it.
        least: the smallest allowed number, in the form for HTML; "" for none.
        most: the largest allowed number.
        whole: whether only whole numbers are allowed.
        choices: the values of a choice in TOML notation, each with the text that is shown.
        fields: the fields in the table.
        kinds: for a list of tables, the kinds of entries, each with a description.
        kind_key: for a list of tables, the key that states the kind of an entry.
        is_unknown: whether the schema does not have the key.
    """

    path: KeyPath
    control: Control
    about: str = ""
    value: str = ""
    default: str = ""
    is_set: bool = False
    is_required: bool = False
    least: str = ""
    most: str = ""
    whole: bool = False
    choices: tuple[tuple[str, str], ...] = ()
    fields: tuple[Field, ...] = ()
    kinds: tuple[tuple[str, str], ...] = ()
    kind_key: str = ""
    is_unknown: bool = False

    @property
    def id(self) -> str:
        """The name of the element in the page."""
        return f"f{hashlib.sha256(self.json.encode()).hexdigest()[:12]}"

    @property
    def json(self) -> str:
        return json.dumps(self.path)

    @property
    def spelled(self) -> str:
        """The key as messages spell it."""
        return spelled(self.path)

    @property
    def label(self) -> str:
        last = self.path[-1]
        if isinstance(last, int):
            return f"{self.path[-2]} {last + 1}"
        return last

    @property
    def words(self) -> str:
        """The text that the filter searches."""
        return f"{self.spelled} {self.about}".lower()

    @property
    def summary(self) -> str:
        """What the file sets in the table, in one line; "" if it sets nothing."""
        if self.control == "tables":
            return " · ".join(each.summary.partition(" · ")[0] or "{}" for each in self.fields)
        said = [(each.label, each.summary if each.control in ("table", "tables") else each.value) for each in self.fields if each.is_set]
        return " · ".join(f"{label} {_short(value)}".strip() for label, value in said)

    @property
    def long(self) -> bool:
        return len(self.value) > LONG or "\n" in self.value


def spelled(path: KeyPath) -> str:
    """Return a key path as messages spell it: "validation.samples[0].prompt"."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


def form_of(schema: Schema, document: Mapping[str, Any]) -> tuple[Field, ...]:
    """Return the fields of a run file.

    Args:
        schema: the JSON Schema of run files.
        document: the values of the file.
    """
    return tuple(_fields(schema, document, ()))


def _fields(schema: Schema, values: Mapping[str, Any], path: KeyPath) -> Iterator[Field]:
    properties = dict(schema.get("properties", {}))
    for rule in schema.get("allOf", ()):
        if _applies(rule["if"], values):
            for name, more in rule["then"]["properties"].items():
                properties[name] = {**properties.get(name, {}), **more}
    required = schema.get("required", ())
    others = schema.get("additionalProperties", False)
    for name, inner in properties.items():
        yield _field(inner, values.get(name), (*path, name), name in values, name in required)
    for name in values.keys() - properties.keys():
        if isinstance(others, Mapping) and others:
            yield _field(others, values[name], (*path, name), True, False)
        else:
            value = values[name]
            yield Field((*path, name), "literal", value=_literal(value), is_set=True, is_unknown=True)


def _applies(condition: Schema, values: Mapping[str, Any]) -> bool:
    ((name, wanted),) = condition["properties"].items()
    return bool(values[name] == wanted["const"]) if name in values else name not in condition.get("required", ())


def _field(schema: Schema, value: Any, path: KeyPath, is_set: bool, is_required: bool) -> Field:
    about, default = schema.get("description", ""), schema.get("default")
    made = Field(
        path, "literal", about, is_set=is_set, is_required=is_required, default="" if default in (None, [], {}) else _literal(default)
    )
    kinds = _kinds(schema)
    if kinds and (value is None or isinstance(value, Mapping)):
        return _of_kinds(made, kinds, value or {})
    if schema.get("type") == "object" and "properties" in schema and (value is None or isinstance(value, Mapping)):
        return attrs.evolve(made, control="table", fields=tuple(_fields(schema, value or {}, path)))
    items = schema.get("items", NOTHING)
    holds_tables = schema.get("type") == "array" and isinstance(items, Mapping) and (_kinds(items) or "properties" in items)
    if holds_tables and (value is None or (isinstance(value, list) and all(isinstance(each, Mapping) for each in value))):
        return _of_tables(made, items, value or [])
    return _of_value(made, schema, value)


def _of_tables(made: Field, items: Schema, values: Sequence[Mapping[str, Any]]) -> Field:
    entries = tuple(_field(items, each, (*made.path, at), True, False) for at, each in enumerate(values))
    kinds = _kinds(items)
    key = next(iter(kinds.values()))[0] if kinds else ""
    told = tuple((name, _first(of.get("description", ""))) for name, (_, of) in kinds.items())
    return attrs.evolve(made, control="tables", fields=entries, kinds=told, kind_key=key)


def _of_kinds(made: Field, kinds: Mapping[str, tuple[str, Schema]], value: Mapping[str, Any]) -> Field:
    """Return a table whose keys depend on what one of its keys says."""
    key = next(iter(kinds.values()))[0]
    named = value.get(key)
    choices = tuple((value_text(name), name) for name in kinds)
    if not isinstance(named, str) or named not in kinds:
        own = Field((*made.path, key), "choice", "what kind it is", "" if named is None else _literal(named), "", key in value, True)
        others = (Field((*made.path, name), "literal", value=_literal(value[name]), is_set=True) for name in value if name != key)
        return attrs.evolve(made, control="table", fields=(attrs.evolve(own, choices=choices), *others))
    schema = kinds[named][1]
    fields = tuple(
        attrs.evolve(each, control="choice", value=value_text(named), choices=choices, is_set=True) if each.path[-1] == key else each
        for each in _fields(schema, value, made.path)
    )
    return attrs.evolve(made, control="table", about=made.about or schema.get("description", ""), fields=fields)


def _of_value(made: Field, schema: Schema, value: Any) -> Field:
    """Return the field of a value that is not a table, with the control for its type; a value of another type is shown as TOML."""
    kind, items = schema.get("type"), schema.get("items")
    options = schema.get("anyOf", ())
    scalars = bool(options) and all(each.get("type") in ("string", "number", "integer") or "enum" in each for each in options)
    if "enum" in schema or "const" in schema:
        choices = tuple((_literal(each), str(each)) for each in schema.get("enum", [schema.get("const")]))
        shown = _literal(value) if made.is_set else ""
        if made.is_set and shown not in dict(choices):
            choices = (*choices, (shown, f"{shown} (not a choice)"))
        return attrs.evolve(made, control="choice", choices=choices, value=shown)
    if kind == "boolean" and (not made.is_set or isinstance(value, bool)):
        if made.default == "":  # what applies without it depends on other keys
            return attrs.evolve(
                made, control="choice", choices=(("true", "on"), ("false", "off")), value=_literal(value) if made.is_set else ""
            )
        return attrs.evolve(made, control="switch", value=_literal(value) if made.is_set else "")
    if kind in ("number", "integer") and (not made.is_set or (isinstance(value, (int, float)) and not isinstance(value, bool))):
        least, most = schema.get("minimum", ""), schema.get("maximum", "")
        return attrs.evolve(
            made, control="number", least=str(least), most=str(most), whole=kind == "integer", value=_number(value) if made.is_set else ""
        )
    if kind == "string" and (not made.is_set or isinstance(value, str)):
        default = schema.get("default")
        return attrs.evolve(made, control="text", value=value if made.is_set else "", default=default or "")
    if scalars and (not made.is_set or isinstance(value, (str, int, float))):
        choices = tuple((str(each), str(each)) for option in options for each in option.get("enum", ()))
        shown = value if isinstance(value, str) else _literal(value)
        return attrs.evolve(made, control="scalar", value=shown if made.is_set else "", choices=choices)
    if kind == "array" and (not made.is_set or isinstance(value, list)):
        return _of_list(made, items, value if made.is_set else None, schema.get("default"))
    return attrs.evolve(made, value=_literal(value) if made.is_set else "")


def _of_list(made: Field, items: Any, value: list[Any] | None, default: Any) -> Field:
    kinds = {each.get("type") for each in (items if isinstance(items, list) else [items or NOTHING])}
    if kinds == {"string"} and all(isinstance(each, str) and "\n" not in each for each in value or ()):
        shown = "\n".join(default) if isinstance(default, list) else ""
        return attrs.evolve(made, control="lines", value="\n".join(value or ()), default=shown)
    if kinds <= {"number", "integer"} and all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in value or ()):
        shown = ", ".join(map(_number, default)) if isinstance(default, list) else ""
        return attrs.evolve(made, control="numbers", value=", ".join(map(_number, value or ())), default=shown)
    return attrs.evolve(made, value="" if value is None else _literal(value))


def _kinds(schema: Schema) -> dict[str, tuple[str, Schema]]:
    """Return the tables that a schema allows by what one of their keys says: the key and the schema of each."""
    found: dict[str, tuple[str, Schema]] = {}
    for each in schema.get("oneOf", ()) or schema.get("anyOf", ()):
        named = [(name, inner["const"]) for name, inner in each.get("properties", {}).items() if "const" in inner]
        if each.get("type") != "object" or not named or not isinstance(named[0][1], str):
            return {}
        found.setdefault(named[0][1], (named[0][0], each))
    return found


def _literal(value: Any) -> str:
    return value_text(value)


def _number(value: Any) -> str:
    """Return a number as an HTML field takes it."""
    return repr(value)


def _short(text: str, most: int = 48) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _first(text: str) -> str:
    """Return the first sentence of a text."""
    return re.split(r"(?<=[.;:])\s", text, maxsplit=1)[0].rstrip(";:")
