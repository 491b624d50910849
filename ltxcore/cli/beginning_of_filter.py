"""The template of `ltx plugins new` for filters of reference clips: one that works, and its tests."""

from __future__ import annotations

from ltxcore.cli.beginning import Beginning

REFERENCE_FILTER = Beginning(
    does="every picture of a clip in grey, darker or lighter",
    made="makes grey clips",
    use="ltx reference dataset.jsonl --output references.jsonl --filter $name,gain=0.8",
    place="On the command line",
    language="bash",
    method="__call__",
    change="make the references that you want",
    module='''\
"""Grey reference clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import attrs
from ltxcore.api import hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class $cls:
    """Make every picture grey, with the brightness multiplied by a factor."""

    gain: float = attrs.field(
        default=1.0,
        validator=attrs.validators.gt(0),
        metadata={"help": "factor by which the brightness is multiplied"},
    )

    def __call__(self, frames: Iterator[Tensor]) -> Iterable[Tensor]:
        """Take the frames of one clip, each `[H, W, 3]` uint8, and yield one for each.

        A frame that is yielded as soon as it was taken needs memory for one frame only.
        """
        for frame in frames:
            grey = (frame.float().mean(dim=2, keepdim=True) * self.gain).clamp(0, 255)
            yield grey.round().byte().expand(-1, -1, 3)


@hookimpl
def ltx_reference_filters() -> dict[str, type]:
    return {"$name": $cls}
''',
    test='''\
"""Test that $name makes what it should."""

import pytest
import torch
from ltxcore.testing import check_imports_lightly

from $module import $cls


@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_there_is_a_frame_for_each(gain: float) -> None:
    frames = torch.randint(0, 256, (5, 4, 6, 3), dtype=torch.uint8)
    made = list($cls(gain)(iter(frames)))
    assert [(frame.shape, frame.dtype) for frame in made] == [((4, 6, 3), torch.uint8)] * 5


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("$module")


def test_a_frame_becomes_the_mean_of_its_colours_times_the_gain() -> None:
    (made,) = $cls(gain=0.5)(iter([torch.tensor([[[30, 60, 90]]], dtype=torch.uint8)]))
    assert made.tolist() == [[[30, 30, 30]]]
''',
)
