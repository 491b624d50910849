"""What the screen shows of a text as it is edited: the form, the mistakes, and the marks at their lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import ConfigError, LtxError
from ltxcore.api.config import parsed_toml
from ltxplugins.studio.run_file.faults import Fault, faults_of, located
from ltxplugins.studio.run_file.form import Field, form_of
from ltxplugins.studio.run_file.schemas import Schemas, plugins_of


@attrs.frozen
class Look:
    """The parts of the page that follow from a text.

    Attributes:
        fields: the fields of the form; None if the text is not TOML.
        faults: the mistakes, by line.
        targets: the id of the field that is nearest to each mistake's key.
        untrusted: the Python files that the text names and that the user has not let the studio execute.
    """

    fields: tuple[Field, ...] | None
    faults: Sequence[Fault]
    targets: Mapping[str, str]
    untrusted: tuple[Path, ...]

    @property
    def by_field(self) -> dict[str, list[Fault]]:
        """The mistakes by the id of the field that they are shown at."""
        found: dict[str, list[Fault]] = {}
        for fault in self.faults:
            if fault.key in self.targets:
                found.setdefault(self.targets[fault.key], []).append(fault)
        return found

    @property
    def around(self) -> dict[str, int]:
        """How many mistakes each table of the form holds, by its id."""
        own, found = self.by_field, dict[str, int]()

        def count(field: Field) -> int:
            number = len(own.get(field.id, ())) + sum(map(count, field.fields))
            if field.fields and number:
                found[field.id] = number
            return number

        for field in self.fields or ():
            count(field)
        return found

    @property
    def marks(self) -> list[tuple[int, str, str]]:
        """The line, the severity and the description of the mistakes, for each line with mistakes."""
        found: dict[int, list[Fault]] = {}
        for fault in self.faults:
            found.setdefault(fault.line, []).append(fault)
        return [
            (line, "wrong" if any(each.kind == "wrong" for each in there) else "here", "\n".join(each.what for each in there))
            for line, there in found.items()
            if line
        ]

    @property
    def wrong(self) -> bool:
        """Whether the run would refuse the text on any machine."""
        return any(fault.kind == "wrong" for fault in self.faults)


def look_at(text: str, path: Path, schemas: Schemas, faults: Sequence[Fault] | None = None) -> Look:
    """Return what to show of a text.

    Args:
        text: the text of a run file.
        path: the present or future path of the file.
        schemas: the schemas of run files.
        faults: the mistakes, if they are known; by default, the mistakes that are found without the data.
    """
    try:
        document = parsed_toml(text, path)
    except ConfigError as error:
        return Look(None, [located(problem, path, "wrong") for problem in error.problems], {}, ())
    plugins = plugins_of(document, path.parent)
    trusted = schemas.trusted(plugins)
    found = list(faults_of(text, path) if faults is None else faults)
    try:
        schema = schemas.of(plugins if trusted else ())
    except LtxError as error:
        found += [located(problem, path, "wrong") for problem in error.problems]
        schema = schemas.of(())
    fields = form_of(schema, document)
    return Look(fields, found, _targets(fields, found), () if trusted else plugins)


def _targets(fields: Sequence[Field], faults: Sequence[Fault]) -> dict[str, str]:
    ids = {field.spelled: field.id for field in every(fields)}
    found: dict[str, str] = {}
    for fault in faults:
        key = fault.key
        while key and key not in ids:
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        if key:
            found[fault.key] = ids[key]
    return found


def every(fields: Sequence[Field]) -> Iterator[Field]:
    """Yield fields and those inside them."""
    for field in fields:
        yield field
        yield from every(field.fields)


def value_of(document: Mapping[str, Any], *path: str) -> Any:
    """Return a value of a run file by its path; None if it is not there."""
    value: Any = document
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
