"""Several captions of a sample in one file: put together, taken apart, and refused where they do not fit."""

from __future__ import annotations

import pytest
import torch

from helpers.encoded_sets import text
from ltxcore.encoded.stored import each_caption, of_captions, stored
from ltxcore.errors import DataError


def test_captions_are_taken_apart_as_they_were_put_together() -> None:
    parts = [text(words, seed=words) for words in (3, 0, 8)]
    sample = stored(of_captions(parts), length=8, encoder="e")
    assert (sample.kind, sample.modality, sample.shape, sample.entry(1).widths) == ("text", "video+audio", (8,), (8, 6))
    found = each_caption(sample)
    assert [each.tensors.keys() for each in found] == [{"video", "audio"}] * 3
    assert all(torch.equal(each.tensors[name], part[name]) for each, part in zip(found, parts, strict=True) for name in part)
    assert {(each.length, each.encoder) for each in found} == {(8, "e")}


def test_a_single_caption_is_stored_as_ever() -> None:
    part = text(5)
    assert of_captions([part]) == part
    sample = stored(part, length=8)
    assert each_caption(sample) == [sample]


@pytest.mark.parametrize(
    ("counts", "length", "told"),
    [
        ([3.0, 1.0], 8, "5 tokens cannot be divided into captions of 3, 1 tokens"),
        ([6.0, -1.0], 8, "5 tokens cannot be divided into captions of 6, -1 tokens"),
        ([2.5, 2.5], 8, "5 tokens cannot be divided into captions of 2.5, 2.5 tokens"),
        ([[5.0]], 8, "5 tokens cannot be divided into captions of 5 tokens"),
        ([float("nan"), 5.0], 8, "5 tokens cannot be divided into captions of nan, 5 tokens"),
        ([4.0, 1.0], 3, "text features have 4 tokens, but their stated length is 3"),
    ],
)
def test_captions_that_do_not_fit_their_features_are_refused(counts: list[float], length: int, told: str) -> None:
    with pytest.raises(DataError) as error:
        stored({**text(5), "captions": torch.tensor(counts)}, length=length)
    assert error.value.problems[0].what == told


def test_a_file_with_nothing_but_the_lengths_of_captions_is_no_sample() -> None:
    with pytest.raises(DataError, match="this file holds captions"):
        stored({"captions": torch.ones(2)}, length=8)
