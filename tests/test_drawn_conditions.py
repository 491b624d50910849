"""Conditions with drawn values in the flexible strategy: each sample has its own, whatever else is in its micro-batch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable
from typing import Any, ClassVar

import attrs
import pytest
import torch

from ltxcore.conditions import ConditionUse
from ltxcore.drawn import Drawn, OneOf, Range
from ltxcore.drawn_conditions import AtEnd, Attempt, Fitting, applied_with, drawn_values, without_content
from ltxcore.errors import DataError
from ltxcore.flow.draws import CountedDraws
from ltxcore.flow.sigmas import Uniform
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.modality_tables import ModalityTable
from ltxcore.protocols import Batch, Draws, Entry, Inputs, Manifest, ModelInput, Setting, StoredLatents, Text
from ltxcore.registry import load
from ltxcore.runs.passes import LargestDraws
from ltxcore.state import LatentState
from ltxcore.strategy import Flexible, FlexibleStrategy

PREFIX = load().get("condition", "prefix").value
MODALITIES = {"video": VideoModality(), "audio": AudioModality()}


@attrs.frozen
class Gap:
    """A stranger's condition: a stretch in the middle is left to generate, the rest is given."""

    modalities = frozenset({"audio"})
    content = "whole"
    calls: ClassVar[list[tuple[int, int, int]]] = []

    start: int
    length: int = attrs.field(validator=attrs.validators.ge(1))

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        self.calls.append((self.start, self.length, state.batch_size))
        if self.start + self.length > state.grid.frames:
            raise DataError("the gap ends after the sound", remedy="Make it shorter.")
        frame = state.grid.frame
        return state.given((frame < self.start) | (frame >= self.start + self.length))


@attrs.frozen
class Echo:
    """A stranger's condition: some of the sound's own steps are appended."""

    modalities = frozenset({"audio"})
    content = None
    appends = True

    length: int

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        if self.length > state.grid.frames:
            raise DataError("the echo is longer than the sound", remedy="Make it shorter.")
        return state.append(state.clean[:, : self.length], state.positions[:, :, : self.length])


def use(cls: Any, probability: float = 1.0, /, **fields: object) -> ConditionUse:
    drawn = {name: each for name, each in fields.items() if isinstance(each, Drawn)}
    first = {name: each.bounds[0] for name, each in drawn.items()}
    return ConditionUse(cls.__name__.lower(), cls(**{**fields, **first}), probability, drawn=drawn)


def strategy(*uses: ConditionUse) -> FlexibleStrategy:
    return Flexible(audio=ModalityTable(True, "audio_latents", list(uses))).build(Setting(MODALITIES, Uniform()))


def sounds(size: int, steps: int = 9) -> Batch:
    latents = torch.randn(size, 8, steps, 16, generator=torch.Generator().manual_seed(0))
    text = Text({"audio": torch.ones(size, 2, 3)}, torch.ones(size, 2))
    return Batch(tuple(f"clip{i}" for i in range(size)), {"audio": StoredLatents(latents, torch.full((size,), 25.0))}, {}, text)


def seen(made: FlexibleStrategy, size: int = 40, steps: int = 9, draws: Draws | None = None) -> ModelInput:
    given = sounds(size, steps)
    return made.prepare(given, draws or CountedDraws(7, 0, given.names, "0.0"))["audio"]


def values(inputs: ModelInput, key: str) -> list[Any]:
    return [each.value for each in inputs.drawn[key]]


LENGTH = "audio.cond0.prefix/temporal_boundary"


def test_each_sample_is_given_as_much_as_it_draws() -> None:
    inputs = seen(strategy(use(PREFIX, temporal_boundary=Range(1, 8))))
    drawn = values(inputs, LENGTH)
    assert set(drawn) == set(range(1, 9))
    assert (inputs.denoise_mask == 0).sum(dim=1).tolist() == drawn
    for row, length in enumerate(drawn):
        assert not inputs.timesteps[row, :length].any()
        assert torch.equal(inputs.tokens[row, :length], inputs.clean[row, :length])


def test_a_drawn_value_is_applied_exactly_as_the_value_itself_is() -> None:
    fixed = seen(strategy(use(PREFIX, temporal_boundary=3)))
    drawn = seen(strategy(use(PREFIX, temporal_boundary=Range(3, 3))))
    for field in ("tokens", "timesteps", "positions", "denoise_mask", "loss_mask", "velocity"):
        assert torch.equal(getattr(fixed, field), getattr(drawn, field))
    assert fixed.drawn == {}


def test_a_sample_draws_alone_what_it_draws_in_a_batch() -> None:
    made = strategy(use(PREFIX, temporal_boundary=Range(1, 8)))
    many = seen(made)
    one = sounds(1)
    alone = made.prepare(attrs.evolve(one, names=("clip5",)), CountedDraws(7, 0, ("clip5",), "3.1"))["audio"]
    assert values(alone, LENGTH) == values(many, LENGTH)[5:6]
    assert torch.equal(alone.denoise_mask[0], many.denoise_mask[5])


def test_the_condition_is_applied_once_to_the_samples_of_each_value_and_to_no_others() -> None:
    Gap.calls.clear()
    inputs = seen(strategy(use(Gap, 0.5, start=OneOf((0, 2)), length=OneOf((1, 3)))))
    applied = inputs.applied["audio.cond0.gap"].tolist()
    pairs = zip(values(inputs, "audio.cond0.gap/start"), values(inputs, "audio.cond0.gap/length"), applied, strict=True)
    expected = Counter((start, length) for start, length, here in pairs if here)
    assert {(start, length): size for start, length, size in Gap.calls} == expected
    assert len(Gap.calls) == len(expected) == 4
    assert 0 < sum(applied) < 40


def test_a_sample_to_which_it_does_not_apply_is_generated_completely() -> None:
    inputs = seen(strategy(use(PREFIX, 0.5, temporal_boundary=Range(1, 8))))
    applied = inputs.applied["audio.cond0.prefix"]
    assert torch.equal((inputs.denoise_mask == 0).any(dim=1), applied)


def test_another_drawn_key_leaves_the_values_of_the_first_as_they_are() -> None:
    alone = seen(strategy(use(Gap, start=Range(0, 4), length=2)))
    both = seen(strategy(use(Gap, start=Range(0, 4), length=Range(1, 5))))
    assert values(alone, "audio.cond0.gap/start") == values(both, "audio.cond0.gap/start")
    assert len(set(values(both, "audio.cond0.gap/length"))) == 5


def test_a_field_does_not_share_its_number_with_the_probability() -> None:
    u = attrs.make_class("U", {"u": attrs.field(type=float)}, frozen=True)
    u.modalities, u.content, u.apply = frozenset({"audio"}), None, lambda self, state, inputs: state
    inputs = seen(strategy(use(u, 0.5, u=Range(0.0, 1.0))))
    numbers = CountedDraws(7, 0, tuple(f"clip{i}" for i in range(40)), "0.0").uniform("audio.cond0.u.u").tolist()
    assert not set(values(inputs, "audio.cond0.u/u")) & set(numbers)


def test_what_appends_draws_for_the_whole_micro_batch() -> None:
    made = strategy(use(Echo, length=Range(1, 9)))
    lengths = set()
    for number in range(30):
        inputs = seen(made, 3, draws=CountedDraws(7, 0, ("clip0", "clip1", "clip2"), f"0.{number}"))
        (length,) = set(values(inputs, "audio.cond0.echo/length"))
        assert inputs.tokens.shape[1] == 9 + length
        lengths.add(length)
    assert len(lengths) > 5


def test_what_appends_now_and_then_says_no_value_where_it_does_not_apply() -> None:
    made = strategy(use(Echo, 0.5, length=Range(1, 9)))
    found = [seen(made, 2, draws=CountedDraws(7, 0, ("clip0", "clip1"), f"0.{number}")) for number in range(20)]
    assert {bool(each.drawn) for each in found} == {True, False}
    assert all(bool(each.drawn) == bool(each.applied["audio.cond0.echo"].all()) for each in found)


# ---------------------------------------------------------------- what fits


def test_with_fit_only_what_fits_the_sample_is_drawn() -> None:
    made = strategy(use(PREFIX, temporal_boundary=Range(1, 8, fit=True)))
    assert set(values(seen(made, steps=4), LENGTH)) == {1, 2, 3}
    assert set(values(seen(made, steps=9), LENGTH)) == set(range(1, 9))


class Cleared(dict[Hashable, Fitting]):
    """What is known, as another thread sees it that clears it as soon as anything is added."""

    def __setitem__(self, place: Hashable, found: Fitting) -> None:
        super().__setitem__(place, found)
        self.clear()


def test_what_fits_is_found_even_if_another_thread_clears_what_is_known() -> None:
    gap, size, many = use(Gap, start=0, length=OneOf((2, 0, 3), fit=True)), 8, sounds(8)
    made, draws = strategy(gap), CountedDraws(7, 0, many.names, "0.0")

    def attempt_of(empty: Batch) -> Attempt:
        return lambda values: applied_with(gap, values, made._start("audio", empty), Inputs(), "here")

    found = [
        drawn_values(gap, "audio.cond0.gap", many, draws, attempt_of, known, torch.ones(size, dtype=torch.bool))[0]
        for known in ({}, Cleared())
    ]
    assert found[0] == found[1]
    assert {each["length"] for each in found[0]} == {2, 3}


def test_where_everything_fits_fit_changes_nothing() -> None:
    with_fit, without = (seen(strategy(use(PREFIX, temporal_boundary=Range(1, 8, fit=fit)))) for fit in (True, False))
    assert values(with_fit, LENGTH) == values(without, LENGTH)


def test_keys_that_have_to_fit_together_are_drawn_together() -> None:
    made = strategy(use(Gap, start=Range(0, 8, fit=True), length=Range(4, 9, fit=True)))
    inputs = seen(made, 200)
    pairs = set(zip(values(inputs, "audio.cond0.gap/start"), values(inputs, "audio.cond0.gap/length"), strict=True))
    assert pairs == {(start, length) for start in range(9) for length in range(4, 10) if start + length <= 9}


def test_what_fits_depends_on_the_values_of_the_keys_that_need_not_fit() -> None:
    inputs = seen(strategy(use(Gap, start=OneOf((0, 8)), length=Range(1, 9, fit=True))), 200)
    pairs = set(zip(values(inputs, "audio.cond0.gap/start"), values(inputs, "audio.cond0.gap/length"), strict=True))
    assert pairs == {(8, 1), *((0, length) for length in range(1, 10))}


def test_what_fits_is_asked_of_sizes_and_rates_alone_even_where_a_sample_has_a_single_value() -> None:
    given = sounds(3)
    one, other = (attrs.evolve(given, masks={"m": torch.full((3, 9), each)}, tensors={"a": torch.full((3,), each)}) for each in (1.0, 2.0))
    empty, size = without_content(one, [0, 2])
    assert (empty.names, empty.tensors["a"].tolist(), empty.masks["m"].tolist()) == (("clip0", "clip2"), [0.0, 0.0], [[0.0] * 9] * 2)
    assert (empty.latents["audio"].rate.tolist(), empty.latents["audio"].latents.shape) == ([25.0, 25.0], (2, 8, 9, 16))
    assert without_content(other, [1, 2])[1] == size != without_content(attrs.evolve(one, masks={}), [0, 2])[1]
    assert without_content(one, [0])[1] != size


def test_what_appends_draws_what_fits_all_samples() -> None:
    made = strategy(use(Echo, length=Range(1, 100, fit=True)))
    drawn = {values(seen(made, 2, 5, CountedDraws(7, 0, ("a", "b"), f"0.{n}")), "audio.cond0.echo/length")[0] for n in range(40)}
    assert drawn == {1, 2, 3, 4, 5}


def test_a_part_of_a_real_range_is_drawn_from_if_both_of_its_ends_fit() -> None:
    @attrs.frozen
    class Seconds:
        modalities = frozenset({"audio"})
        content = "start"
        duration: float

        def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
            if self.duration > 0.2:
                raise DataError("it is too long", remedy="Make it shorter.")
            return state.given(state.positions[0, 0, :, 0] < self.duration)

    drawn = values(seen(strategy(use(Seconds, duration=Range(0.01, 1.0, fit=True))), 100), "audio.cond0.seconds/duration")
    assert 0.01 <= min(drawn) < 0.05
    assert 0.15 < max(drawn) <= 0.2
    assert len(set(drawn)) == 100


# ---------------------------------------------------------------- the check, the largest, the ends

SIZES = Manifest({"audio": {"long": Entry((8, 27, 16)), "short": Entry((8, 5, 16))}})
REMEDY = "    Set temporal_boundary below the length of the shortest sample, or leave out the short samples."


def refusal(made: FlexibleStrategy, data: Manifest = SIZES) -> str:
    with pytest.raises(DataError) as caught:
        made.check(data)
    return str(caught.value)


def test_the_check_names_what_is_too_small_for_a_value_that_may_be_drawn() -> None:
    assert refusal(strategy(use(PREFIX, temporal_boundary=Range(1, 8)))) == (
        "training_strategy.audio.conditions.0, sample short of 5 latent steps, with temporal_boundary = 8: "
        f"a prefix of 8 latent frames leaves nothing to generate in a sample of 5 latent frames\n{REMEDY} "
        "Or write fit = true beside temporal_boundary, which draws from what fits each sample."
    )


@attrs.frozen
class Short:
    """A condition that takes few numbers, and refuses many without saying what to do about it."""

    modalities = frozenset({"audio"})
    steps: int = 1
    gain: float = 1.0

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        if self.steps > state.grid.frames:
            raise DataError("too many")
        return state.given(0.5 * (state.grid.frame < self.steps - 1))


def test_what_a_refusal_without_a_remedy_suggests_is_a_sentence_too() -> None:
    made = strategy(use(Short, steps=Range(6, 8, fit=True), gain=Range(1.0, 2.0)))
    fit = "    Write fit = true beside gain, which draws from what fits each sample."
    assert refusal(made).splitlines()[1:] == [fit]
    everywhere = refusal(strategy(use(Short, steps=Range(6, 8, fit=True), gain=Range(1.0, 2.0, fit=True))))
    assert (everywhere.count("too many"), "fit = true" in everywhere) == (1, False)


def test_the_check_spells_a_clip_as_its_bucket() -> None:
    table = ModalityTable(True, "latents", [use(PREFIX, temporal_boundary=OneOf((1, 4)))])
    made = Flexible(video=table).build(Setting(MODALITIES, Uniform()))
    said = refusal(made, Manifest({"video": {"clip": Entry((128, 3, 2, 4), 24.0)}}))
    assert said.startswith("training_strategy.video.conditions.0, sample clip of 128x64x17, with temporal_boundary = 4: a prefix of 4")


def test_the_check_allows_what_fits_and_refuses_where_nothing_does() -> None:
    strategy(use(PREFIX, temporal_boundary=Range(1, 8, fit=True))).check(SIZES)
    assert refusal(strategy(use(PREFIX, temporal_boundary=Range(6, 8, fit=True)))) == (
        "training_strategy.audio.conditions.0, sample short of 5 latent steps, with temporal_boundary = 6: "
        f"a prefix of 6 latent frames leaves nothing to generate in a sample of 5 latent frames\n{REMEDY}"
    )


def test_a_value_that_the_class_itself_refuses_is_told_and_does_not_fit() -> None:
    assert refusal(strategy(use(Gap, start=0, length=OneOf((2, 0))))).startswith(
        "training_strategy.audio.conditions.0, sample long of 27 latent steps, with length = 0: "
        "the condition \"gap\" refuses length = 0: 'length' must be >= 1: 0\n    Draw only from values that the condition accepts, and list them in one_of."
    )
    assert set(values(seen(strategy(use(Gap, start=0, length=OneOf((2, 0, 3), fit=True)))), "audio.cond0.gap/length")) == {2, 3}


def test_every_combination_of_bounds_is_checked() -> None:
    assert "with start = 3, length = 3" in refusal(strategy(use(Gap, start=Range(0, 3), length=OneOf((1, 3)))))


@pytest.mark.parametrize("fit", [False, True])
def test_the_largest_micro_batch_has_the_most_appended_tokens(fit: bool) -> None:
    made = strategy(use(Echo, 0.1, length=Range(2, 20 if fit else 7, fit=fit)))
    assert seen(made, 2, draws=LargestDraws(2)).tokens.shape[1] == 9 + (9 if fit else 7)


def test_a_value_at_an_end_leaves_all_other_draws_as_they_are() -> None:
    made = strategy(use(PREFIX, 0.5, temporal_boundary=Range(1, 8)))
    assert made.ranges == (LENGTH,)
    draws = CountedDraws(7, 0, sounds(40).names, "0.0")
    own, least, most = (seen(made, draws=each) for each in (draws, AtEnd(draws, LENGTH, 0.0), AtEnd(draws, LENGTH, 1.0)))
    assert (set(values(least, LENGTH)), set(values(most, LENGTH))) == ({1}, {8})
    for other in (least, most):
        assert torch.equal(other.noise, own.noise)
        assert torch.equal(other.sigma, own.sigma)
        assert torch.equal(other.applied["audio.cond0.prefix"], own.applied["audio.cond0.prefix"])


# ---------------------------------------------------------------- values that are drawn anew


@attrs.frozen
class Window(Gap):
    """A gap that does not end after the sound, drawn until it is so."""

    redraws = 8


WINDOW = "audio.cond0.window"


def drawn_by(row: int, again: int, field: str, low: int, high: int) -> int:
    """What a sample draws for a field after so many draws, by the formula of the arithmetic."""
    behind = f".again{again}" if again else ""
    u = float(CountedDraws(7, 0, sounds(40).names, "0.0").uniform(f"{WINDOW}.value.{field}{behind}")[row])
    return low + int(u * (high - low + 1))


@attrs.frozen
class Again:
    """A stranger's condition: its name and its key look like parts of the names of draws."""

    modalities = frozenset({"audio"})
    content = "start"

    again: int

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given(state.grid.frame < self.again)


def test_a_value_is_at_an_end_whatever_its_key_and_its_condition_are_called() -> None:
    named = attrs.evolve(use(Again, again=Range(1, 8)), type="again/and")
    draws = CountedDraws(7, 0, sounds(40).names, "0.0")
    for number, length in ((0.0, 1), (1.0, 8)):
        at_end = seen(strategy(named), draws=AtEnd(draws, "audio.cond0.again/and/again", number))
        assert values(at_end, "audio.cond0.again/and/again") == [length] * 40


def test_refused_values_are_drawn_anew_and_after_eight_times_the_condition_is_not_applied() -> None:
    inputs = seen(strategy(use(Window, start=Range(0, 40), length=Range(1, 9))))
    applied = inputs.applied[WINDOW].tolist()
    assert 0 < sum(applied) < 40
    for row in range(40):
        tries = [(drawn_by(row, again, "start", 0, 40), drawn_by(row, again, "length", 1, 9)) for again in range(9)]
        fits = next(((start, length) for start, length in tries if start + length <= 9), None)
        assert applied[row] == (fits is not None)
        given = (inputs.denoise_mask[row] == 0).tolist()
        if fits is None:
            assert not any(given)
        else:
            start, length = fits
            assert given == [not start <= step < start + length for step in range(9)]
            assert (values(inputs, f"{WINDOW}/start")[row], values(inputs, f"{WINDOW}/length")[row]) == fits


def test_values_that_are_accepted_are_drawn_once_as_if_nothing_were_drawn_anew() -> None:
    made = (attrs.evolve(use(cls, start=Range(0, 4), length=Range(1, 5)), type="gap") for cls in (Gap, Window))
    once, again = (seen(strategy(each)) for each in made)
    assert torch.equal(once.denoise_mask, again.denoise_mask)
    assert once.drawn == again.drawn


def test_a_sample_to_which_it_does_not_apply_is_not_asked() -> None:
    Gap.calls.clear()
    inputs = seen(strategy(use(Window, 0.2, start=Range(0, 8), length=1)))
    applied = int(inputs.applied[WINDOW].sum())
    assert 0 < applied < 20
    asked = len([size for _, _, size in Gap.calls if size == 1])
    assert applied <= asked <= 2 * applied  # each alone, and those with a value of their own once more


def test_what_fits_is_drawn_anew_with_what_need_not_fit() -> None:
    inputs = seen(strategy(use(Window, start=OneOf((0, 9)), length=Range(1, 9, fit=True))))
    applied = inputs.applied[WINDOW]
    assert torch.equal(
        (inputs.denoise_mask == 0).sum(dim=1), torch.tensor([9 - each for each in values(inputs, f"{WINDOW}/length")]) * applied
    )
    assert sum(applied.tolist()) > 35
    assert {start for start, here in zip(values(inputs, f"{WINDOW}/start"), applied.tolist(), strict=True) if here} == {0}


def test_the_check_refuses_only_what_fits_with_no_combination_of_values() -> None:
    strategy(use(Window, start=Range(0, 30), length=Range(1, 9))).check(SIZES)
    assert refusal(strategy(use(Window, start=Range(5, 30), length=Range(1, 9)))) == (
        "training_strategy.audio.conditions.0, sample short of 5 latent steps, with start = 5, length = 1: "
        "the gap ends after the sound\n    Make it shorter."
    )
    assert refusal(strategy(use(Window, start=5, length=1))) == (
        "training_strategy.audio.conditions.0, sample short: the gap ends after the sound\n    Make it shorter."
    )


def test_a_value_at_an_end_stays_there_while_other_values_are_drawn_anew() -> None:
    made = strategy(use(Window, start=Range(0, 8), length=Range(1, 5)))
    assert made.ranges == (f"{WINDOW}/start", f"{WINDOW}/length")
    inputs = seen(made, draws=AtEnd(CountedDraws(7, 0, sounds(40).names, "0.0"), f"{WINDOW}/length", 1.0))
    assert set(values(inputs, f"{WINDOW}/length")) == {5}
    assert inputs.applied[WINDOW].sum() > 30


# ---------------------------------------------------------------- what the LoRA says


@attrs.frozen
class Told(Gap):
    """A gap that says its length in the LoRA."""

    def metadata(self, pairs: Any) -> dict[str, str]:
        return {"gap": str(self.length)}


def test_the_lora_says_what_values_were_drawn_from() -> None:
    made = strategy(use(PREFIX, temporal_boundary=Range(1, 4, fit=True)), use(Gap, start=OneOf((0, 2), (1.0, 3.0)), length=2))
    assert json.loads(made.metadata(SIZES)["drawn_values"]) == {
        LENGTH: {"min": 1, "max": 4, "fit": True},
        "audio.cond1.gap/start": {"one_of": [0, 2], "weights": [1.0, 3.0]},
    }
    assert strategy(use(PREFIX, temporal_boundary=3)).metadata(SIZES) == {}


def test_a_condition_says_the_same_of_all_values_that_it_may_have() -> None:
    made = strategy(use(Told, start=OneOf((0, 1)), length=2))
    assert made.metadata(SIZES)["gap"] == "2"
    with pytest.raises(DataError) as caught:
        strategy(use(Told, start=0, length=Range(2, 3))).metadata(SIZES)
    assert str(caught.value) == (
        "training_strategy.audio.conditions.0: the saved LoRA would record gap = 3 with length = 3, but 2 with other values\n"
        "    Draw only what a LoRA need not record."
    )
