"""The cards of a dataset's clips: sent in pages as one scrolls, filled when they are seen, and edited in place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ltxcore.api import DataError, LtxError, Problem
from ltxplugins.studio.data import writing
from ltxplugins.studio.data.fitting import Fit, Fitting
from ltxplugins.studio.data.listing import PAGE, Clip, Listing, Listings, size_of
from ltxplugins.studio.data.pictures import Facts, Pictures
from ltxplugins.studio.studio import PLAYED, Studio, show

Posted = Callable[[Callable[[Request, dict[str, list[str]]], Response]], Callable[[Request], Any]]


class Cards:
    """The cards of a studio's datasets."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.listings = Listings(studio.workspace)
        self.pictures = Pictures(studio.workspace)
        self.fitting = Fitting()
        self.changing = threading.Lock()

    def routes(self, posted: Posted) -> Sequence[BaseRoute]:
        return [
            Route("/data/clips", self.clips),
            Route("/data/details", self.details),
            Route("/data/thumbnail", self.thumbnail),
            Route("/data/media", self.media),
            Route("/data/caption", posted(self.caption), methods=["POST"]),
        ]

    def overview(self, name: str) -> dict[str, Any]:
        """Return what the page says of a dataset, which is read anew.

        Raises:
            LtxError: the dataset cannot be read.
        """
        listing = self.listings.get(name, anew=True)
        return {"listing": listing, "stopped": writing.is_stopped(listing), **self.page_of(listing, name, {})}

    def page_of(self, listing: Listing, name: str, asked: dict[str, str]) -> dict[str, Any]:
        """Return the values of a page of cards.

        Args:
            listing: the list of the dataset.
            name: the path of the dataset.
            asked: what the user searches for, and from which card on.
        """
        chosen = self.chosen(listing, asked)
        start = int(asked.get("start", "0")) if asked.get("start", "0").isdecimal() else 0
        more = {"data": name, **{key: asked[key] for key in ("search", "order", "only", "buckets") if asked.get(key)}}
        after = start + PAGE
        return {
            "name": name,
            "clips": chosen[start:after],
            "start": start,
            "count": len(chosen),
            "total": len(listing.clips),
            "buckets": asked.get("buckets", ""),
            "next": f"/data/clips?{urlencode({**more, 'start': after})}" if after < len(chosen) else "",
            "address": self.address(name, asked.get("buckets", "")),
            "list_of_captions": any(clip.captions[0].part is not None for clip in chosen[start:after]),
            "unwritable": listing.captions is None,
        }

    def chosen(self, listing: Listing, asked: dict[str, str]) -> list[Clip]:
        """Return the clips that the user searches for, in the order that they ask for."""
        only = asked.get("only", "")

        def wanted(clip: Clip) -> bool:
            return only != "empty" or any(caption.is_empty for caption in clip.captions)

        return listing.chosen(asked.get("search", ""), asked.get("order", ""), wanted, self.pictures.known_seconds)

    def address(self, name: str, buckets: str = "") -> Callable[..., str]:
        """Return a function that makes addresses about a clip of a dataset."""

        def address(what: str, clip: Clip, **more: str) -> str:
            return f"/data/{what}?{urlencode({'data': name, 'clip': clip.name, **({'buckets': buckets} if buckets else {}), **more})}"

        return address

    def clips(self, request: Request) -> Response:
        """Answer with a page of cards."""
        asked = dict(request.query_params)
        name = asked.get("data", "")
        return self.studio.answer("data-clips.html", **self.page_of(self.listings.get(name), name, asked))

    def details(self, request: Request) -> Response:
        """Answer with what is known of a clip after its files were opened."""
        asked = request.query_params
        name, buckets = asked.get("data", ""), asked.get("buckets", "").strip()
        listing = self.listings.get(name)
        clip = listing.get(asked.get("clip", ""))
        facts, problems = Facts(), list[Problem]()
        fit: Fit | None = None
        try:
            facts = self.pictures.facts(self.inside(clip.path))
            problems += [] if facts.problem is None else [facts.problem]
            if buckets and facts.problem is None:
                fit = self.fitting(listing, clip, buckets, (facts.width, facts.height))
                problems += fit.problems
        except LtxError as error:
            problems += error.problems
        return self.studio.answer(
            "data-details.html",
            clip=clip,
            facts=facts,
            problems=problems,
            fit=fit,
            size=size_of(clip.path),
            plays=clip.path is not None and clip.path.suffix.lower() in PLAYED,
            address=self.address(name),
        )

    def thumbnail(self, request: Request) -> Response:
        """Answer with a moving picture of a file of a clip."""
        data = self.pictures.thumbnail(self.file(request), still="still" in request.query_params)
        return Response(data, media_type="image/webp", headers={"cache-control": "private, max-age=600"})

    def media(self, request: Request) -> Response:
        """Answer with a file of a clip as it is."""
        return show(self.file(request))

    def file(self, request: Request) -> Path:
        """Return the file that a request names by its dataset, clip and role.

        Raises:
            DataError: there is no such file, or it is outside the opened folder.
        """
        asked = request.query_params
        clip = self.listings.get(asked.get("data", "")).get(asked.get("clip", ""))
        return self.inside(clip.media.get(asked.get("role", clip.role)))

    def inside(self, path: Path | None) -> Path:
        """Return a file of a dataset, if it is in the opened folder.

        Raises:
            DataError: it is not, or the row names none.
        """
        if path is None:
            raise DataError("this row names no file", remedy="Name a file in the dataset, or exclude the row.")
        return self.studio.workspace.path(str(path))

    def caption(self, request: Request, fields: dict[str, list[str]]) -> Response:
        """Save a caption, and answer with its form."""

        def field(name: str) -> str:
            return fields.get(name, [""])[0].replace("\r\n", "\n")

        name, clip_name, old, new = field("data"), field("clip"), field("old"), field("caption")
        part = int(field("part")) if field("part").isdecimal() else None
        problems: Sequence[Problem] = ()
        with self.changing:
            listing = self.listings.get(name, anew=True)
            try:
                writing.save(listing, clip_name, part, old, new)
            except LtxError as error:
                problems = error.problems
            else:
                listing = self.listings.get(name, anew=True)
        clip = listing.get(clip_name)
        caption = next((each for each in clip.captions if each.part == part), clip.captions[0])
        return self.studio.answer(
            "data-caption.html",
            name=name,
            clip=clip,
            caption=caption,
            text=new if problems else caption.caption or "",
            problems=problems,
            saved=not problems,
        )
