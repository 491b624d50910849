"""The screen that compares: samples in a grid that plays in step, curves of several runs, validation losses, and run files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ltxcore.api import LtxError, Problem
from ltxcore.api.runs import Record, short_number
from ltxplugins.studio.compare.columns import first_choice, grid, of_run, of_strengths
from ltxplugins.studio.compare.difference import difference
from ltxplugins.studio.runs.charts import overlaid, validation_rows
from ltxplugins.studio.runs.found import Library
from ltxplugins.studio.studio import Screen, Studio

MOST = 12
"""The maximum number of columns of the grid: more videos do not play in step on a usual machine."""


@attrs.frozen
class Validation:
    """A row of the table of validation losses: the modality, the noise level, and for each run its loss in words; "–" if it has none."""

    modality: str
    sigma: str
    values: tuple[str, ...]


@attrs.frozen
class Compare:
    """What the addresses of the screen answer."""

    studio: Studio
    library: Library

    def page(self, request: Request) -> Response:
        query = request.query_params
        names = self.library.found().runs
        problems: list[Problem] = []
        records: dict[str, Record] = {}
        for name in dict.fromkeys(query.getlist("run")):
            try:
                records[name] = self.library.record(name)
            except LtxError as error:
                problems += error.problems
        tried = of_strengths(self.studio, self.studio.jobs.all())
        columns = [column for name, record in records.items() for column in of_run(self.studio, name, record)] + tried
        asked = [each for each in query.getlist("column") if each in {column.id for column in columns}]
        chosen = asked or first_choice(columns)
        shown = [column for column in columns if column.id in chosen][:MOST]
        log, smooth = "log" in query, "rough" not in query
        return self.studio.answer(
            "compare.html",
            names=sorted({*names, *records}),
            records=records,
            problems=problems,
            by_run={name: [column for column in columns if column.title == name and column not in tried] for name in records},
            tried=tried,
            shown=shown,
            ids=[column.id for column in shown],
            too_many=len(set(chosen)) > MOST,
            most=MOST,
            lines=grid(shown),
            log=log,
            smooth=smooth,
            charts=overlaid(records, log=log, smooth=smooth) if len(records) > 1 else [],
            validation=_validation(records),
            **self._difference(query.get("first", ""), query.get("second", ""), records),
        )

    def _difference(self, first: str, second: str, records: Mapping[str, Record]) -> dict[str, Any]:
        names = list(records)
        one = first if first in records else names[0] if names else ""
        other = second if second in records else next((name for name in names if name != one), "")
        lines = difference(records[one].text, records[other].text) if other else []
        return {"first": one, "second": other, "lines_differ": lines}


def _validation(records: Mapping[str, Record]) -> list[Validation]:
    """Return the last validation losses of runs side by side."""
    tables = [{row[:2]: row[2:] for row in validation_rows(record)} for record in records.values()]
    keys = sorted({key for table in tables for key in table})
    return [Validation(modality, sigma, tuple(_loss(table.get((modality, sigma))) for table in tables)) for modality, sigma in keys]


def _loss(found: tuple[float, float | None] | None) -> str:
    if found is None:
        return "–"
    return short_number(found[0]) + ("" if found[1] is None else f" ± {short_number(found[1])}")


def routes(studio: Studio) -> Sequence[BaseRoute]:
    compare = Compare(studio, Library(studio.workspace))
    return [Route("/compare", compare.page)]


COMPARE = Screen("compare", "Compare", routes)
