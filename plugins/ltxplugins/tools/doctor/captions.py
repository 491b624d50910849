"""Checks for captions that say nothing, that another row has too, or that are too long for the text encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ltxplugins.tools.doctor.findings import Finding, warning

if TYPE_CHECKING:
    from ltxcore.api.dataset import Sample


def examine_captions(samples: Sequence[Sample], trigger: str | None, length: int) -> Iterator[Finding]:
    """Find what is wrong with the captions of a dataset.

    Args:
        samples: the samples whose captions are used.
        trigger: the trigger word that stands before each of them.
        length: the number of tokens that the text encoder takes.
    """
    first: dict[str, Sample] = {}
    for sample in samples:
        caption = sample.caption.strip()
        if caption == (trigger or "").strip():
            yield warning(
                "empty-caption",
                sample.where,
                "its caption is empty",
                "Describe the clip, or leave it empty if the run should learn without text.",
            )
            continue
        other = first.setdefault(caption, sample)
        if other is not sample:
            yield warning(
                "duplicate-caption",
                sample.where,
                f"its caption is the same as that of {other.called}",
                "Describe how the clips differ, unless they are alike.",
            )
        # A word is at least one token, so at least this many are lost with any text encoder.
        words = len(caption.split())
        if words > length:
            yield warning(
                "long-caption",
                sample.where,
                f"its caption has {words} words, but the text encoder only takes {length} tokens: the rest is ignored",
                "Shorten it, and put what matters first.",
            )
