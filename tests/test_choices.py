"""Choices between lists of conditions in the flexible strategy."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from ltxcore.conditions import ConditionUse
from ltxcore.drawn import Drawn, Range
from ltxcore.errors import ConfigError, DataError
from ltxcore.flow.draws import CountedDraws
from ltxcore.flow.sigmas import Uniform
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.modality_tables import Choice, ModalityTable
from ltxcore.protocols import Batch, Draws, Entry, Manifest, ModelInput, Setting, StoredLatents, Text
from ltxcore.registry import load
from ltxcore.runs.passes import LargestDraws, tokens_of
from ltxcore.strategy import Flexible, FlexibleStrategy
from ltxcore.testing import check_strategy
from ltxcore.train.held_out_generations import Always
from ltxcore.train.metrics import Facts

REGISTRY = load()
NAMES = tuple(f"clip{index}" for index in range(40))


def use(name: str, probability: float = 1.0, sources: dict[str, str] | None = None, **fields: Any) -> ConditionUse:
    drawn = {key: each for key, each in fields.items() if isinstance(each, Drawn)}
    first = {key: each.bounds[0] for key, each in drawn.items()}
    return ConditionUse(name, REGISTRY.get("condition", name).value(**{**fields, **first}), probability, sources or {}, drawn)


PREFIX, SUFFIX = use("prefix", temporal_boundary=2), use("suffix", temporal_boundary=3)
SHORT = use("reference", sources={"reference": "short"})
LONG = use("reference", sources={"reference": "long"})


def table(*choices: Choice, conditions: tuple[ConditionUse, ...] = ()) -> ModalityTable:
    return ModalityTable(True, "latents", list(conditions), choices=list(choices))


def built(**tables: ModalityTable) -> FlexibleStrategy:
    return Flexible(**tables).build(Setting({"video": VideoModality(), "audio": AudioModality()}, Uniform()))


def latents(modality: str, size: int, length: int) -> StoredLatents:
    shape = (size, 8, length, 16) if modality == "audio" else (size, 4, length, 2, 2)
    return StoredLatents(torch.randn(shape, generator=torch.Generator().manual_seed(length)), torch.full((size,), 25.0))


def batch(names: tuple[str, ...] = NAMES, **lengths: int) -> Batch:
    text = Text({name: torch.ones(len(names), 2, 3) for name in ("audio", "video")}, torch.ones(len(names), 2))
    roles = {role.replace("__", "."): length for role, length in lengths.items()}
    return Batch(names, {role: latents(role.partition(".")[0], len(names), length) for role, length in roles.items()}, {}, text)


def draws(names: tuple[str, ...] = NAMES, batch_id: str = "0.0") -> CountedDraws:
    return CountedDraws(7, 0, names, batch_id)


def seen(made: FlexibleStrategy, given: Draws | None = None) -> ModelInput:
    return made.prepare(batch(audio=9), given or draws())["audio"]


def lists(inputs: ModelInput, key: str = "audio.choice0") -> list[int]:
    return [each.value for each in inputs.drawn[f"{key}/one_of"]]


def test_each_sample_has_the_conditions_of_the_list_that_it_draws() -> None:
    inputs = seen(built(audio=table(Choice([[PREFIX], [SUFFIX], []]))))
    drawn = lists(inputs)
    assert {*drawn} == {0, 1, 2}
    alone = [seen(built(audio=ModalityTable(True, "latents", uses))) for uses in ([PREFIX], [SUFFIX], [])]
    for row, number in enumerate(drawn):
        for field in ("denoise_mask", "tokens", "timesteps", "loss_mask", "velocity"):
            assert torch.equal(getattr(inputs, field)[row], getattr(alone[number], field)[row])
    assert inputs.applied["audio.choice0.list0.cond0.prefix"].tolist() == [number == 0 for number in drawn]
    assert inputs.applied["audio.choice0.list1.cond0.suffix"].tolist() == [number == 1 for number in drawn]


def test_lists_are_drawn_as_often_as_their_weights_say() -> None:
    names = tuple(map(str, range(2000)))
    (choice,) = built(audio=table(Choice([[PREFIX], [SUFFIX]], weights=[3.0, 1.0]))).choices
    drawn = choice.drawn(draws(names))
    assert drawn.count(0) / len(drawn) == pytest.approx(0.75, abs=0.03)


def test_a_choice_adds_to_the_conditions_and_leaves_their_draws_as_they_are() -> None:
    often = use("suffix", 0.5, temporal_boundary=3)
    without = seen(built(audio=ModalityTable(True, "latents", [often])))
    inputs = seen(built(audio=table(Choice([[PREFIX], []]), conditions=(often,))))
    assert torch.equal(inputs.applied["audio.cond0.suffix"], without.applied["audio.cond0.suffix"])
    assert torch.equal(inputs.sigma, without.sigma)
    assert torch.equal(inputs.denoise_mask[:, -3:], without.denoise_mask[:, -3:])


def test_a_list_depends_on_its_sample_alone() -> None:
    made = built(audio=table(Choice([[PREFIX], [SUFFIX], []])))
    (choice,) = made.choices
    assert choice.drawn(draws()) == [choice.drawn(draws((name,), "3.1"))[0] for name in NAMES]


def test_probabilities_and_drawn_values_work_within_lists() -> None:
    drawn = use("prefix", 0.5, temporal_boundary=Range(1, 8))
    inputs = seen(built(audio=table(Choice([[drawn], [SUFFIX]]))))
    key = "audio.choice0.list0.cond0.prefix"
    applied = inputs.applied[key].tolist()
    assert 0 < sum(applied) < lists(inputs).count(0)
    for row, (value, here) in enumerate(zip(inputs.drawn[f"{key}/temporal_boundary"], applied, strict=True)):
        if here:
            assert int((inputs.denoise_mask[row] == 0).sum()) == value.value


def test_choices_of_both_modalities_are_drawn_together_if_they_say_so() -> None:
    both = Choice([[PREFIX], [SUFFIX]], together=True)
    for together in (True, False):
        video = Choice([[use("first_frame")], []], together=together)
        audio = both if together else Choice(both.one_of)
        prepared = built(video=table(video), audio=table(audio)).prepare(batch(video=3, audio=9), draws())
        same = lists(prepared["video"], "video.choice0") == lists(prepared["audio"])
        assert same == together


def test_where_a_list_appends_tokens_all_samples_of_a_micro_batch_draw_the_same_list() -> None:
    made = built(audio=table(Choice([[SHORT], [PREFIX], []])))
    role = "audio.choice0.list0.cond0.reference"
    found = set()
    for index in range(12):
        given = draws(batch_id=f"0.{index}")
        wanted = made.wanted(given)
        roles = {"audio": 9} | {name.replace(".", "__"): 4 for name in wanted}
        inputs = made.prepare(batch(**roles), given)["audio"]
        (number,) = {*lists(inputs)}
        found.add(number)
        assert wanted == (frozenset({role}) if number == 0 else frozenset())
        assert inputs.tokens.shape[1] == (13 if number == 0 else 9)
        assert bool((inputs.denoise_mask[:, :9] == 0).any()) == (number == 1)
    assert found == {0, 1, 2}
    assert made.sources()[role].optional


def test_a_choice_that_is_drawn_together_with_one_that_appends_is_drawn_by_micro_batch_too() -> None:
    video = Choice([[use("first_frame")], []], together=True)
    made = built(video=table(video), audio=table(Choice([[SHORT], [PREFIX]], together=True)))
    assert [choice.by_batch for choice in made.choices] == [True, True]


def test_the_largest_micro_batch_has_the_list_that_appends_the_most() -> None:
    made = built(audio=table(Choice([[], [SHORT], [LONG], [PREFIX]])))
    given = LargestDraws(len(NAMES))
    short, long = ("audio.choice0.list1.cond0.reference", "audio.choice0.list2.cond0.reference")
    assert made.wanted(given) == {short, long}
    roles = {"audio": 9, short.replace(".", "__"): 4, long.replace(".", "__"): 7}
    inputs = made.prepare(batch(**roles), given)["audio"]
    assert {*lists(inputs)} == {2}
    assert inputs.tokens.shape[1] == 16
    shapes = {"audio": (8, 9, 16), short: (8, 4, 16), long: (8, 7, 16)}
    assert tokens_of(shapes, {role: source for role, source in made.sources().items() if role != "text"}) == 16


def test_of_lists_that_append_as_much_the_largest_micro_batch_has_one_with_a_strength() -> None:
    weak = use("reference", sources={"reference": "short"}, strength=0.5)
    inputs = built(audio=table(Choice([[], [SHORT], [weak]]))).prepare(
        batch(audio=9, audio__choice0__list1__cond0__reference=4, audio__choice0__list2__cond0__reference=4), LargestDraws(len(NAMES))
    )
    assert {*lists(inputs["audio"])} == {2}
    assert inputs["audio"].groups == (9, 4)


def test_the_largest_of_choices_drawn_together_is_the_largest_of_both() -> None:
    video = Choice([[use("reference", sources={"reference": "reference_latents"})], []], together=True)
    made = built(video=table(video), audio=table(Choice([[SHORT], [LONG]], together=True)))
    given = LargestDraws(len(NAMES))
    roles = {"video": 3, "audio": 9, "video.choice0.list0.cond0.reference": 3}
    roles |= {f"audio.choice0.list{number}.cond0.reference": 4 + 2 * number for number in range(2)}
    prepared = made.prepare(batch(**{role.replace(".", "__"): length for role, length in roles.items()}), given)
    assert (prepared["video"].tokens.shape[1], prepared["audio"].tokens.shape[1]) == (24, 13)


def test_metrics_count_each_list_of_a_choice() -> None:
    inputs = seen(built(audio=table(Choice([[PREFIX, use("mask", 0.0, sources={"mask": "masks"})], [SUFFIX], []]))))
    facts = Facts.of({"audio": inputs})
    names = ["0_prefix+mask", "1_suffix", "2_nothing"]
    for row, number in enumerate(lists(inputs)):
        assert f"audio.choice0/one_of_{names[number]}" in facts.parts(row)


def test_a_held_out_clip_is_generated_with_the_list_that_it_is_measured_with() -> None:
    made = built(audio=table(Choice([[use("prefix", 0.1, temporal_boundary=2)], [SUFFIX]])))
    inputs = seen(made, Always(draws()))
    assert lists(inputs) == lists(seen(made))
    assert inputs.applied["audio.choice0.list0.cond0.prefix"].tolist() == [number == 0 for number in lists(inputs)]


def test_every_list_is_tried_on_the_data_before_training() -> None:
    made = built(audio=table(Choice([[PREFIX], [use("suffix", temporal_boundary=12)]])))
    with pytest.raises(DataError) as refused:
        made.check(Manifest({"text": {"clip": Entry((2, 3))}, "audio": {"clip": Entry((8, 9, 16), 25.0)}}))
    assert "training_strategy.audio.choices.0.one_of.1.0" in str(refused.value)


def test_the_lora_records_the_lists() -> None:
    made = built(audio=table(Choice([[PREFIX], [use("suffix", 0.5, temporal_boundary=Range(1, 3))], []], weights=[1.0, 2.0, 1.0])))
    found = made.metadata(Manifest({"audio": {"clip": Entry((8, 9, 16), 25.0)}}))
    suffix = {"type": "suffix", "probability": 0.5, "temporal_boundary": {"min": 1, "max": 3}}
    assert json.loads(found["condition_choices"]) == {
        "audio.choice0": {"one_of": [[{"type": "prefix", "temporal_boundary": 2}], [suffix], []], "weights": [1.0, 2.0, 1.0]}
    }
    assert json.loads(found["drawn_values"]) == {"audio.choice0.list1.cond0.suffix/temporal_boundary": {"min": 1, "max": 3}}
    assert "condition_choices" not in built(audio=table(conditions=(PREFIX,))).metadata(Manifest({"audio": {}}))


@pytest.mark.parametrize(
    ("tables", "where", "what"),
    [
        ({"audio": table(Choice([]))}, "audio.choices.0.one_of", "no condition"),
        ({"audio": table(Choice([[], []]))}, "audio.choices.0.one_of", "no condition"),
        ({"audio": table(Choice([[PREFIX], []], weights=[1.0]))}, "audio.choices.0.weights", "1 weight for 2 lists"),
        ({"audio": table(Choice([[PREFIX], [use("first_frame")]]))}, "audio.choices.0.one_of.1.0.type", "does not work on audio"),
        ({"audio": table(Choice([[PREFIX], []], together=True))}, "audio.choices.0.together", "there is none"),
        (
            {
                "audio": table(Choice([[PREFIX], []], together=True)),
                "video": table(Choice([[PREFIX], [], [SUFFIX]], together=True)),
            },
            "video.choices.0.together",
            "another number of lists",
        ),
        (
            {"audio": ModalityTable(False, "latents", choices=[Choice([[PREFIX], []])]), "video": table()},
            "audio.choices.0.one_of.0.0.type",
            "already given",
        ),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused_at_its_key(tables: dict[str, ModalityTable], where: str, what: str) -> None:
    with pytest.raises(ConfigError) as refused:
        built(**tables)
    assert any(problem.where == f"training_strategy.{where}" and what in problem.what for problem in refused.value.problems)


def test_the_kit_for_strategies_finds_no_fault_in_choices() -> None:
    video = Choice([[use("first_frame")], [use("reference", sources={"reference": "references"})]], together=True)
    audio = Choice([[use("prefix", temporal_boundary=1)], []], together=True)
    check_strategy(Flexible(video=table(video), audio=table(audio, Choice([[use("suffix", temporal_boundary=1)], []]))))
