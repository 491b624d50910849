"""The cards of a dataset's clips: sent in pages as one scrolls, filled when they are seen, and edited in place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ltxcore.api import DataError, LtxError, Problem
from ltxcore.api.dataset import read_excluded, write_excluded
from ltxplugins.studio.data import writing
from ltxplugins.studio.data.findings import Findings, by_clip
from ltxplugins.studio.data.fitting import Fit, Fitting
from ltxplugins.studio.data.lengths import Lengths
from ltxplugins.studio.data.listing import PAGE, Clip, Listing, Listings, size_of
from ltxplugins.studio.data.pictures import Facts, Pictures
from ltxplugins.studio.data.sound_masks import Laid, lay
from ltxplugins.studio.data.uploads import received
from ltxplugins.studio.studio import PLAYED, Fields, Studio, one, posted, show

ASKED = ("search", "order", "only", "buckets")
"""What the user may ask for: a text, an order, a kind of clips, and the buckets to fit clips to."""


class Cards:
    """The cards of a studio's datasets."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.listings = Listings(studio.workspace)
        self.pictures = Pictures(studio.workspace)
        self.lengths = Lengths(studio.workspace)
        self.fitting = Fitting()
        self.findings = Findings(studio.jobs)
        self.changing = threading.Lock()

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/data/clips", self.clips),
            Route("/data/details", self.details),
            Route("/data/encoded", self.encoded),
            Route("/data/thumbnail", self.thumbnail),
            Route("/data/media", self.media),
            Route("/data/caption", posted(self.caption), methods=["POST"]),
            Route("/data/exclude", posted(self.exclude), methods=["POST"]),
            Route("/data/finish", posted(self.finish), methods=["POST"]),
            Route("/data/doctor", self.doctor),
            Route("/data/doctor/start", posted(self.start_doctor), methods=["POST"]),
            Route("/data/doctor/stop", posted(self.stop_doctor), methods=["POST"]),
            Route("/data/upload", received(self.studio.workspace), methods=["PUT"]),
            Route("/data/edit", posted(self.edit), methods=["POST"]),
        ]

    def overview(self, name: str, asked: Mapping[str, str]) -> dict[str, Any]:
        """Return the values for the page about a dataset, which is read anew.

        Args:
            name: the path of the dataset.
            asked: what the user asks for, by the names in `ASKED`.

        Raises:
            LtxError: the dataset cannot be read.
        """
        listing = self.listings.get(name, anew=True)
        return {
            "listing": listing,
            "stopped": writing.is_stopped(listing),
            "asked": {key: asked.get(key, "") for key in ASKED},
            **self.examined(name),
            **self.page_of(listing, name, asked),
        }

    def page_of(self, listing: Listing, name: str, asked: Mapping[str, str]) -> dict[str, Any]:
        """Return the values of a page of cards.

        Args:
            listing: the list of the dataset.
            name: the path of the dataset.
            asked: what the user asks for, by the names in `ASKED`, and the number of the first card.
        """
        findings, others = by_clip(listing, self.findings.about(name))
        excluded = frozenset(read_excluded(listing.dataset.path))
        chosen = self.chosen(listing, asked, findings, excluded)
        unmeasured = self.by_length(chosen) if asked.get("order") == "length" else 0
        start = int(asked.get("start", "0")) if asked.get("start", "0").isdecimal() else 0
        again = {"data": name, **{key: asked[key] for key in ASKED if asked.get(key)}}
        more = {**again, "order": ""} if unmeasured else again  # an order that changed between pages would lose clips
        after = start + PAGE
        return {
            "name": name,
            "clips": chosen[start:after],
            "start": start,
            "count": len(chosen),
            "total": len(listing.clips),
            "unmeasured": unmeasured,
            "again": f"/data/clips?{urlencode(again)}",
            "buckets": asked.get("buckets", ""),
            "next": f"/data/clips?{urlencode({**more, 'start': after})}" if after < len(chosen) else "",
            "address": self.address(name, asked.get("buckets", "")),
            "list_of_captions": any(clip.captions[0].part is not None for clip in chosen[start:after]),
            "findings": findings,
            "others": others,
            "excluded": excluded,
        }

    def chosen(self, listing: Listing, asked: Mapping[str, str], findings: Collection[int], excluded: Collection[str]) -> list[Clip]:
        """Return the clips that the user searches for, in the order that they ask for, except an order by length."""
        only = asked.get("only", "")

        def wanted(clip: Clip) -> bool:
            if only == "empty":
                return any(caption.is_empty for caption in clip.captions)
            if only == "findings":
                return clip.index in findings
            return only not in ("excluded", "included") or (clip.name in excluded) == (only == "excluded")

        return listing.chosen(asked.get("search", ""), asked.get("order", ""), wanted)

    def by_length(self, clips: list[Clip]) -> int:
        """Sort clips by their length, and return 0; if some lengths are still being read, only return the number of these."""
        paths = {clip: clip.path for clip in clips if clip.path is not None}
        known = self.lengths.of(paths.values())
        unmeasured = sum(path not in known for path in paths.values())
        if not unmeasured:
            clips.sort(key=lambda clip: -known[paths[clip]] if clip in paths else 0.0)
        return unmeasured

    def address(self, name: str, buckets: str = "") -> Callable[..., str]:
        """Return a function that makes addresses about a clip of a dataset."""

        def address(what: str, clip: Clip, **more: str) -> str:
            row = {"row": clip.index}  # two rows may name one clip, with masks and references of their own
            return (
                f"/data/{what}?{urlencode({'data': name, 'clip': clip.name, **row, **({'buckets': buckets} if buckets else {}), **more})}"
            )

        return address

    def clips(self, request: Request) -> Response:
        """Answer with a page of cards."""
        asked = dict(request.query_params)
        name = asked.get("data", "")
        return self.studio.answer("data-clips.html", **self.page_of(self.listings.get(name), name, asked))

    def details(self, request: Request) -> Response:
        """Open the files of a clip, and answer with the facts about them."""
        asked = request.query_params
        name, buckets = asked.get("data", ""), asked.get("buckets", "").strip()
        listing = self.listings.get(name)
        clip = listing.get(asked.get("clip", ""), asked.get("row", ""))
        problems: list[Problem] = []
        facts = self.facts(clip.path, "", problems)
        beside = {role: self.facts(path, role.replace("_", " "), problems) for role, path in clip.beside.items()}
        fit: Fit | None = None
        if buckets and facts.width:
            try:
                fit = self.fitting(listing, clip, buckets, (facts.width, facts.height))
                problems += fit.problems
            except LtxError as error:
                problems += error.problems
        return self.studio.answer(
            "data-details.html",
            clip=clip,
            facts=facts,
            beside=beside,
            mask=self.mask(clip, facts, beside),
            unseen={role: path.name for role, path in clip.media.items() if role != clip.role and role not in beside},
            problems=problems,
            fit=fit,
            size=size_of(clip.path),
            plays={role for role, path in clip.media.items() if path.suffix.lower() in PLAYED},
            address=self.address(name),
        )

    def facts(self, path: Path | None, where: str, problems: list[Problem]) -> Facts:
        """Return the facts of a file of a clip; if it cannot be read, add the reason to `problems`, at the place `where`."""
        try:
            found = self.pictures.facts(self.inside(path))
        except LtxError as error:
            problems += (attrs.evolve(problem, where=where or problem.where) for problem in error.problems)
            return Facts()
        if found.problem is not None:
            problems.append(attrs.evolve(found.problem, where=where))
        return found

    def mask(self, clip: Clip, facts: Facts, beside: Mapping[str, Facts]) -> Laid | None:
        """Return the mask of a clip's audio, laid over its waveform; None if there is no mask, or one of the two cannot be read."""
        if "audio_mask" not in beside or not beside["audio_mask"].bars:
            return None
        # The audio of a clip is not used if there is other audio beside it.
        over, sound = ("audio", beside["audio"]) if "audio" in beside else (clip.role, facts)
        if not sound.heard:
            return None
        return lay(self.pictures.spans(self.inside(clip.beside["audio_mask"])), over, sound.heard)

    def encoded(self, request: Request) -> Response:
        """Answer with whether a dataset is encoded, and where."""
        return self.studio.answer("data-encoded.html", root=self.listings.get(request.query_params.get("data", "")).root())

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
        clip = self.listings.get(asked.get("data", "")).get(asked.get("clip", ""), asked.get("row", ""))
        return self.inside(clip.media.get(asked.get("role", clip.role)))

    def inside(self, path: Path | None) -> Path:
        """Return a file of a dataset, if it is in the opened folder.

        Raises:
            DataError: the file is outside the folder, or the row names no file.
        """
        if path is None:
            raise DataError("this row names no file", remedy="Name a file in the dataset, or remove the row.")
        return self.studio.workspace.path(str(path))

    def caption(self, request: Request, fields: Fields) -> Response:
        """Save a caption, and answer with its form."""
        name, clip_name, row, old, new = (one(fields, each, "") for each in ("data", "clip", "row", "old", "caption"))
        number = one(fields, "part", "")
        part = int(number) if number.isdecimal() else None
        problems: Sequence[Problem] = ()
        with self.changing:
            listing = self.listings.get(name, anew=True)
            try:
                listing = writing.save(listing, listing.get(clip_name, row), part, old, new)
            except LtxError as error:
                problems = error.problems
            else:
                self.listings.keep(name, listing)
        clip = listing.get(clip_name, row)
        caption = next((each for each in clip.captions if each.part == part), clip.captions[0])
        return self.studio.answer(
            "data-caption.html",
            name=name,
            place=row or clip.index,
            clip=clip,
            caption=caption,
            text=new if problems else caption.caption or "",
            problems=problems,
            saved=not problems,
        )

    def exclude(self, request: Request, fields: Fields) -> Response:
        """Exclude a clip, or include it again, and answer with its button."""
        name, clip_name, row = (one(fields, each, "") for each in ("data", "clip", "row"))
        with self.changing:
            listing = self.listings.get(name)
            clip = listing.get(clip_name, row)
            if clip.path is None:
                raise DataError("this row names no file, so it cannot be excluded", remedy="Remove it from the dataset file.")
            names = [each for each in read_excluded(listing.dataset.path) if each != clip.name]
            out = one(fields, "out", "") == "1"
            write_excluded(listing.dataset.path, [*names, clip.name] if out else names)
        return self.studio.answer("data-exclude.html", name=name, place=row or clip.index, clip=clip, out=out)

    def examined(self, name: str) -> dict[str, Any]:
        """Return how far the doctor is with a dataset."""
        job = self.findings.job(name)
        return {"name": name, "job": job, "report": self.findings.of(job)}

    def doctor(self, request: Request) -> Response:
        """Answer with how far the doctor is with a dataset."""
        return self.studio.answer("data-doctor.html", **self.examined(request.query_params.get("data", "")))

    def start_doctor(self, request: Request, fields: Fields) -> Response:
        """Examine a dataset."""
        name = one(fields, "data", "")
        with self.changing:
            job = self.findings.job(name)
            if job is None or job.state not in ("waiting", "running"):
                self.findings.start(self.listings.get(name), name, one(fields, "buckets", "").strip())
        return self.studio.answer("data-doctor.html", **self.examined(name))

    def stop_doctor(self, request: Request, fields: Fields) -> Response:
        """Stop the doctor."""
        name = one(fields, "data", "")
        job = self.findings.job(name)
        if job is not None:
            self.studio.jobs.stop(job)
        return self.studio.answer("data-doctor.html", **self.examined(name))

    def finish(self, request: Request, fields: Fields) -> Response:
        """Finish a change of captions that was stopped."""
        name = one(fields, "data", "")
        with self.changing:
            count = writing.finish(self.listings.get(name))
            self.listings.get(name, anew=True)
        return self.studio.answer("data-changed.html", count=count)

    def edit(self, request: Request, fields: Fields) -> Response:
        """Show what a change of many captions would do or, once the user has seen it, make it."""
        name = one(fields, "data", "")
        edit = writing.edit_of(fields)
        with self.changing:
            listing = self.listings.get(name, anew=True)
            asked = {each: one(fields, each, "") for each in ("search", "only")}
            findings, _ = by_clip(listing, self.findings.about(name))
            clips = self.chosen(listing, asked, findings, frozenset(read_excluded(listing.dataset.path)))
            changes = writing.changes_of(listing, clips, edit)
            seen = writing.digest_of(changes)
            wanted = one(fields, "seen", "")
            if wanted and changes and wanted == seen:
                writing.write(listing, changes, seen)
                self.listings.get(name, anew=True)
                return self.studio.answer("data-changed.html", count=len(changes))
        shown = changes[: writing.SHOWN]
        return self.studio.answer("data-preview.html", changes=shown, count=len(changes), seen=seen, stale=bool(wanted) and wanted != seen)
