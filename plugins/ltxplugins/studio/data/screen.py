"""The screen of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ltxcore.api import LtxError
from ltxplugins.studio.data.cards import Cards
from ltxplugins.studio.data.listing import KINDS, ORDERS, find_datasets
from ltxplugins.studio.studio import Screen, Studio


def routes(studio: Studio) -> Sequence[BaseRoute]:
    cards = Cards(studio)

    def page(request: Request) -> Response:
        asked = request.query_params
        found, complete = find_datasets(studio.workspace.root)
        names = [studio.workspace.name(path) for path in found]
        chosen = asked.get("data", names[0] if len(names) == 1 else "")
        values: dict[str, Any] = {
            "datasets": names,
            "complete": complete,
            "chosen": chosen,
            "orders": ORDERS,
            "kinds": KINDS,
            "problems": (),
            "listing": None,
            "add_to": "clips",
        }
        if chosen:
            try:
                values |= cards.overview(chosen, asked)
                values["add_to"] = studio.workspace.name(studio.workspace.path(str(values["listing"].dataset.folder)))
            except LtxError as error:
                values["problems"] = error.problems
        return studio.answer("data.html", **values)

    return [Route("/data", page), *cards.routes()]


DATA = Screen("data", "Data", routes)
