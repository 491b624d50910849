"""Objectives as a run uses them: their names in metrics, the steps in which they are learned, their passes and their data."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import torch

from ltxcore.api import Role
from ltxcore.api.objectives import Pass
from ltxcore.objectives import ObjectiveUse, PassCount, drawn, faults_of_passes, labelled, with_objectives
from ltxcore.protocols import Source


@attrs.frozen
class Some:
    """An objective that is never computed."""

    passes: Any = (Pass("model"),)
    roles: Any = ()


def test_objectives_of_one_type_are_numbered_in_metrics() -> None:
    uses = [ObjectiveUse("slider", Some()), ObjectiveUse("flow_matching", Some()), ObjectiveUse("slider", Some())]
    assert list(labelled(uses)) == ["slider", "flow_matching", "slider_2"]


def test_an_objective_is_learned_in_its_share_of_steps_the_same_ones_in_every_process_and_run() -> None:
    uses = labelled(
        [ObjectiveUse("always", Some()), ObjectiveUse("often", Some(), probability=0.75), ObjectiveUse("seldom", Some(), probability=0.1)]
    )
    steps = [list(drawn(uses, 3, step)) for step in range(1, 2001)]
    assert all("always" in step for step in steps)
    for name, share in (("often", 0.75), ("seldom", 0.1)):
        assert sum(name in step for step in steps) / 2000 == pytest.approx(share, abs=0.03)
    together = sum({"often", "seldom"} <= set(step) for step in steps) / 2000
    assert together == pytest.approx(0.075, abs=0.02), "each is drawn by itself"
    torch.manual_seed(5)
    assert [list(drawn(uses, 3, step)) for step in range(1, 2001)] == steps
    assert [list(drawn(uses, 4, step)) for step in range(1, 2001)] != steps


def test_passes_are_counted_and_so_are_those_that_are_in_memory_at_once() -> None:
    three = Some((Pass("base", gradient=False), Pass("one"), Pass("other")))
    count = PassCount.of([ObjectiveUse("a", Some()), ObjectiveUse("b", three)])
    assert (count, str(count)) == (PassCount(forwards=4, backwards=3, at_once=2), "4 forwards and 3 backwards")
    assert PassCount.of([]) == PassCount.of([ObjectiveUse("a", Some())]) == PassCount(1, 1, 1)


@pytest.mark.parametrize(
    ("passes", "fault"),
    [
        ((), "has passes (); they are a tuple"),
        ([Pass("model")], "they are a tuple"),
        (("model",), "they are a tuple"),
        ((Pass("a"), Pass("a")), "has two passes of one name: a, a"),
        ((Pass("a", gradient=False),), "has no pass with a gradient"),
        ((Pass("a", adapters=False), Pass("b")), 'has a pass "a" without adapters, in which nothing is trained; give it gradient=False'),
    ],
)
def test_passes_that_the_core_could_not_run_are_told(passes: Any, fault: str) -> None:
    (found,) = faults_of_passes(passes)
    assert fault in found


class Plain:
    """A strategy, as far as its sources go."""

    generated = frozenset({"video"})

    def sources(self) -> dict[str, Source]:
        return {"text": Source("conditions", "text")}


def test_the_data_of_objectives_are_among_the_sources_of_a_run() -> None:
    roles = (
        Role("face", source_key="face_dir", kind="mask", modality="video"),
        Role("voice", source_key="voice_dir", kind="mask", modality="audio"),
    )
    uses = [ObjectiveUse("region", Some()), ObjectiveUse("region", Some(roles=roles), sources={"face": "faces"})]
    both: Any = with_objectives(Plain(), uses)
    assert both.sources() == {
        "text": Source("conditions", "text"),
        "objectives.region_2.face": Source("faces", "mask", "video", where="objectives.1.face_dir"),
    }
    assert both.generated == {"video"}
    plain: Any = Plain()
    assert with_objectives(plain, uses[:1]) is plain
