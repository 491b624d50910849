"""Captions that the page changes: one at a time in place, or many after a preview."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

import attrs

from ltxcore.api import DataError
from ltxcore.api.dataset import Caption, CaptionEdit, before_and_after, captions_stopped, finish_captions
from ltxplugins.studio.data.listing import Clip, Listing
from ltxplugins.studio.studio import Fields, one

SHOWN = 50
"""The changes that a preview shows."""


class StaleCaption(DataError):
    """The caption is no longer what the page showed."""


@attrs.frozen
class Change:
    """A change of a caption, for a preview."""

    caption: Caption
    new: str

    @property
    def parts(self) -> tuple[str, str]:
        """The caption before and after, with brackets around what differs."""
        return before_and_after(self.caption.caption or "", self.new)


def save(listing: Listing, clip: Clip, part: int | None, old: str, new: str) -> Listing:
    """Write a caption where it came from, and return the list with it.

    Args:
        listing: the list of the dataset, read just now.
        clip: one of its clips.
        part: the number of the caption, if the clip has a list of them.
        old: the caption that the page showed.
        new: the new caption.

    Raises:
        StaleCaption: the caption has been changed by another program since the page showed it.
        DataError: the caption cannot be written.
    """
    caption = next((each for each in clip.captions if each.part == part), None)
    if listing.captions is None or caption is None:
        raise DataError(f"{clip.name} has no such caption", remedy="Reload the page.")
    if (caption.caption or "") != old:
        remedy = "The field below holds your text. Save it again to replace what the file holds now."
        raise StaleCaption(f"another program changed this caption meanwhile, to: {caption.caption or ''}", remedy=remedy)
    text = listing.captions.written(caption, new)
    if text is None:
        return listing
    listing.captions.write({caption: text}, repr(("studio", clip.name, part, text)))
    return listing.recaptioned(caption, text)


def edit_of(fields: Fields) -> CaptionEdit:
    """Return the change that a form describes.

    Raises:
        DataError: the text to find is not a regular expression, or the replacement does not fit the expression.
    """

    old, new = one(fields, "find", ""), one(fields, "replacement", "")
    replace: tuple[tuple[re.Pattern[str], str], ...] = ()
    if old:
        is_regex = "regex" in fields
        try:
            pattern = re.compile(old if is_regex else re.escape(old), re.IGNORECASE if "ignore_case" in fields else re.NOFLAG)
            template = new if is_regex else new.replace("\\", r"\\")
            pattern.sub(template, "")
        except (re.error, IndexError) as error:
            raise DataError(f"this cannot be replaced: {error}", remedy="Correct the expression, or clear its check box.") from error
        replace = ((pattern, template),)
    edit = CaptionEdit("strip_openings" in fields, replace, one(fields, "prefix", ""), one(fields, "suffix", ""))
    if edit == CaptionEdit():
        raise DataError("nothing is to be changed", remedy="Fill in a text to find, a prefix or a suffix, or choose to strip openings.")
    return edit


def changes_of(listing: Listing, clips: Sequence[Clip], edit: CaptionEdit) -> list[Change]:
    """Return the captions of some clips that an edit changes.

    Raises:
        DataError: the dataset has no captions.
    """
    if listing.captions is None:
        raise DataError.of(listing.problems)
    found = []
    for clip in clips:
        for caption in clip.captions:
            new = listing.captions.edited(caption, edit)
            if new is not None:
                found.append(Change(caption, new))
    return found


def digest_of(changes: Sequence[Change]) -> str:
    """Return a text that is the same only for the same changes of the same captions."""
    told = json.dumps([[each.caption.name, each.caption.caption, each.new] for each in changes])
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


def write(listing: Listing, changes: Sequence[Change], what: Any) -> None:
    """Write changes, all or none.

    Raises:
        DataError: the captions cannot be written.
    """
    assert listing.captions is not None
    listing.captions.write({change.caption: change.new for change in changes}, repr(("studio", what)))


def finish(listing: Listing) -> int:
    """Finish a change that was stopped, and return the files that still had to be written.

    Raises:
        DataError: a file cannot be written, or has been changed by another program since.
    """
    done = finish_captions(listing.dataset.path)
    return 0 if done is None else done.files


def is_stopped(listing: Listing) -> bool:
    """Return whether a change of the dataset's captions was stopped before its end."""
    return captions_stopped(listing.dataset.path)
