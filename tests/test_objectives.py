"""Objectives as a run uses them: their names in metrics, the steps in which they are learned, their passes and their data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from ltxcore.api import Role
from ltxcore.api.objectives import Pass
from ltxcore.objectives import (
    ObjectiveUse,
    PassCount,
    drawn,
    faults_of_passes,
    labelled,
    prompts_of,
    seed_of_dataset,
    sees_samples,
    with_objectives,
)
from ltxcore.protocols import Source


@attrs.frozen
class Some:
    """An objective that is never computed."""

    passes: Any = (Pass("model"),)
    roles: Any = ()
    data: Path = Path("others")
    share: float = 1.0


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
    guided = Some((Pass("teacher", gradient=False, guidance={"video": 3.0, "audio": 1.0}), Pass("model")))
    assert PassCount.of([ObjectiveUse("c", guided)]) == PassCount(forwards=3, backwards=1, at_once=1), "a guided pass counts twice"
    assert PassCount.of([]) == PassCount.of([ObjectiveUse("a", Some())]) == PassCount(1, 1, 1)


@pytest.mark.parametrize(
    ("passes", "fault"),
    [
        ((), "has passes (); they must be a tuple"),
        ([Pass("model")], "they must be a tuple"),
        (("model",), "they must be a tuple"),
        ((Pass("a"), Pass("a")), "has several passes with the same name: a, a"),
        ((Pass("a", gradient=False),), "has no pass with a gradient"),
        ((Pass("a", adapters=False), Pass("b")), 'has a pass "a" without adapters, in which nothing is trained; give it gradient=False'),
        ((Pass("a", weights="ema"),), 'has a pass "a" with averaged weights, in which nothing is trained; give it gradient=False'),
        (
            (Pass("a", adapters=False, gradient=False, weights="ema"), Pass("b")),
            'has a pass "a" without adapters, so it has no trained weights; leave weights="ema" out',
        ),
        ((Pass("a", weights="old", gradient=False), Pass("b")), 'with the weights "old", which must be "live" or "ema"'),  # type: ignore[arg-type]
        ((Pass("a"), Pass("b", batch="data")), "has passes over several batches (own, data), but all passes must be over the same batch"),
        ((Pass("a", batch="share"),), 'has a pass over the batch "share", which must be "own", or a key of its own of type Path'),
    ],
)
def test_passes_that_the_core_could_not_run_are_told(passes: Any, fault: str) -> None:
    (found,) = faults_of_passes(Some(passes))
    assert fault in found


def test_a_guided_pass_needs_the_empty_caption_and_does_not_show_the_samples_as_they_are() -> None:
    guided = [Pass("a", guidance=3.0), Pass("b", text="a dog", guidance={"video": 2.0}), Pass("c", guidance={"video": 1.0})]
    assert [each.prompts for each in guided] == [("",), ("a dog", ""), ()]
    assert prompts_of([ObjectiveUse("some", Some(tuple(guided)))]) == ["", "a dog"]
    assert [sees_samples(each) for each in (*guided, Pass("d", weights="ema"))] == [False, False, True, False]
    assert guided[1].scales(["audio", "video"]) == {"video": 2.0}


def test_an_objective_reads_the_dataset_that_its_passes_name_and_then_has_no_roles() -> None:
    role = Role("face", source_key="face_dir", kind="mask", modality="video")
    apart = Some((Pass("a", batch="data"), Pass("b", batch="data", gradient=False)))
    assert list(faults_of_passes(apart)) == []
    assert ObjectiveUse("apart", apart).dataset == Path("others")
    assert ObjectiveUse("own", Some()).dataset is None
    (found,) = faults_of_passes(attrs.evolve(apart, roles=(role,)))
    assert found == 'has roles, whose data belong to the samples of the run, and must not have passes over "data"'


def test_the_draws_of_a_dataset_are_those_of_its_place_in_the_run_file() -> None:
    seeds = [seed_of_dataset(seed, index) for seed, index in ((3, 0), (3, 1), (4, 0))]
    assert len(set(seeds)) == 3
    assert seed_of_dataset(3, 0) == seeds[0]


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
