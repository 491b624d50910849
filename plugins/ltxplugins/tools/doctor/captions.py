"""Check for captions that say nothing, that are the same as another row's, or that are too long for the text encoder."""

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
        trigger: the trigger word and the prefix that are put before each caption.
        length: the maximum number of tokens that the text encoder accepts.
    """
    first: dict[str, Sample] = {}
    captions = [(sample, caption.strip()) for sample in samples for caption in sample.captions]
    for sample, caption in captions:
        if caption == (trigger or "").strip():
            yield warning(
                "empty-caption",
                sample.where,
                "the caption is empty",
                "Describe the clip, or leave the caption empty if the run should learn without text.",
            )
            continue
        other = first.setdefault(caption, sample)
        if other is not sample:
            yield warning(
                "duplicate-caption",
                sample.where,
                f"the caption is the same as that of {other.called}",
                "Describe how the clips differ, unless they are alike.",
            )
        # A word has at least one token, so with any text encoder at least this many words are lost.
        words = len(caption.split())
        if words > length:
            yield warning(
                "long-caption",
                sample.where,
                f"the caption has {words} words, but the text encoder only takes {length} tokens: the rest is ignored",
                "Shorten the caption, and put what matters first.",
            )
