"""The conformance kit passes what comes with ltx, and says of every wrong plugin what is wrong with it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import torch

from helpers.installing import site
from ltxcore.api import DataError, Flexible, Inputs, LatentState, ModalityTable, Role
from ltxcore.registry import load
from ltxcore.state import Grid
from ltxcore.testing import check_condition, check_imports_lightly, check_strategy

REGISTRY = load(disabled=())
EXAMPLES: dict[str, dict[str, Any]] = {
    "prefix": {"temporal_boundary": 2},
    "suffix": {"temporal_boundary": 2},
    "spatial_crop": {"spatial_region": (0, 0, 64, 32)},
    "hole": {"length": 0.5},
}


@pytest.mark.parametrize("name", REGISTRY.of_kind("condition"))
def test_every_registered_condition_keeps_to_the_protocol(name: str) -> None:
    check_condition(REGISTRY.get("condition", name).value, **EXAMPLES.get(name, {}))


def test_a_hole_keeps_to_the_protocol_whatever_is_drawn() -> None:
    hole = REGISTRY.get("condition", "hole").value
    few = {"video": [Grid(1, 2, 2), Grid(4, 3, 2)], "audio": [Grid(9, scale=(4, 1, 1))]}
    check_condition(hole, grids=few, height={"min": 0.2, "max": 1.0}, top={"min": 0.0, "max": 1.0}, invert={"one_of": [True, False]})
    check_condition(hole, grids=few, length={"min": 0.2, "max": 1.0}, count={"one_of": [1, 3]})


def test_what_is_drawn_anew_may_be_refused_now_and_then_but_not_always() -> None:
    with pytest.raises(
        AssertionError, match=r'^with length = 1\.0, Hole breaks .*\n  - refuses every video that it is tried on, the last with "'
    ):
        check_condition(
            REGISTRY.get("condition", "hole").value,
            length={"one_of": [0.99, 1.0]},
            grids={"video": [Grid(2)], "audio": [Grid(2, scale=(4, 1, 1))]},
        )


# ---------------------------------------------------------------- wrong conditions


@attrs.frozen
class Base:
    """Right: gives every other latent frame of a clip, and nothing of an image."""

    modalities: ClassVar = frozenset({"video"})
    content: ClassVar = "whole"

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given(state.grid.frame % 2 == 1)


@attrs.frozen
class InPlace(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        state.clean.clamp_(-1, 1)
        return state.given(state.grid.frame % 2 == 1)


@attrs.frozen
class InPlaceMask(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        state.denoise_mask[:, state.grid.frame % 2 == 1] = 0.0
        return state


@attrs.frozen
class Drawn(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given(torch.rand(state.num_target) * 0.5 * (state.grid.frame > 0))


@attrs.frozen
class DrawnByPython(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given(state.grid.frame > state.grid.frames * (0.5 + random.random() / 2))


@attrs.define
class Counting:
    modalities: ClassVar = frozenset({"video"})
    content: ClassVar = "whole"
    calls: int = 0

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        self.calls += 1
        return state.given((state.grid.frame > 0) / (1 + self.calls))


CALLS = [0]


@attrs.frozen
class CountingElsewhere(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        CALLS[0] += 1
        return state.given((state.grid.frame > 0) * 0.5 / CALLS[0])


@attrs.frozen
class OneValueASample(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given(torch.zeros(state.batch_size))


@attrs.frozen
class Percent(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given((state.grid.frame % 2 == 1) * 100)


@attrs.frozen
class FirstOfTheBatch(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        shown = (state.clean.mean(dim=2) > state.clean[:1].mean()).float() * (state.grid.frame > 0)
        return state.given(shown)


@attrs.frozen
class BatchOfThree(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given((state.grid.frame % 2 == 1).expand(3, -1))


@attrs.frozen
class WhatIsLeft(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given((state.grid.frame % 2 == 1) * state.denoise_mask[:, : state.num_target])


@attrs.frozen
class AllTokens(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given((state.grid.frame % 2 == 1) & (state.denoise_mask[0] == 1))


@attrs.frozen
class WithoutContent(Base):
    content: ClassVar = None


@attrs.frozen
class WrongEnd(Base):
    content: ClassVar = "end"

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state if state.grid.frames == 1 else state.given(state.grid.frame == 0)


@attrs.frozen
class WholeImage(Base):
    content: ClassVar = "start"

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given(state.grid.frame == 0)


@attrs.frozen
class ForgetsTheSound(Base):
    modalities: ClassVar = frozenset({"video", "audio"})

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given((state.grid.row + state.grid.column) % 2 == 1)


@attrs.frozen
class Idle(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state


@attrs.frozen
class Picky(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        raise DataError("there is no frame 1000", remedy="Use longer clips.")


@attrs.frozen
class Terse(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        if state.grid.frames == 1:
            raise DataError("it is an image")
        return state.given(state.grid.frame % 2 == 1)


@attrs.frozen
class Crashing(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given(state.grid.frame == [0, 1, 2][state.grid.frames - 1])


@attrs.frozen
class Undeclared(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given(inputs.mask("mask"))


@attrs.frozen
class SilentAppend(Base):
    roles: ClassVar = (Role("other", source_key="other_dir", kind="latents"),)

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.append(inputs.latents("other").tokens, inputs.latents("other").positions)


@attrs.frozen
class Appending(SilentAppend):
    content: ClassVar = None
    appends: ClassVar = True


@attrs.frozen
class AppendsTheTarget(Base):
    content: ClassVar = None
    appends: ClassVar = True

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.append(state.clean, state.positions)


@attrs.frozen
class AppendsNaN(AppendsTheTarget):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.append(torch.full_like(state.clean[:, :1], float("nan")), state.positions[:, :, :1])


@attrs.frozen
class AppendsNowhere(AppendsTheTarget):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.append(torch.ones_like(state.clean[:, :1]), state.positions[:, :, :1] / 0)


@attrs.frozen
class ForgetsItsRole(Base):
    roles = (Role("mask", source_key="mask_dir", kind="mask"),)


@attrs.frozen
class NeedsContent(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        if not state.clean.any():
            raise DataError("the clip is empty", remedy="Leave it out.")
        return state.given(state.grid.frame % 2 == 1)


@attrs.frozen
class NumbersForTheLora(Appending):
    def metadata(self, pairs: Any) -> dict[str, Any]:
        return {"factor": 2}


@attrs.frozen
class NothingForTheLora(Appending):
    def metadata(self, pairs: Any) -> dict[str, str]:
        return {"factor": str(pairs["factor"])}


@attrs.frozen
class MovesTheTarget(Base):
    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return attrs.evolve(state, positions=state.positions + 1)


class NotAttrs:
    modalities = frozenset({"video"})

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state


@attrs.frozen
class Untyped(Base):
    every = attrs.field(default=2)


@attrs.frozen(eq=False)
class Incomparable:
    modalities: ClassVar = frozenset({"video"})
    content: ClassVar = "whole"
    every: int = 2

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given(state.grid.frame % self.every == 1)


@attrs.frozen
class Unwritable(Base):
    every: complex = 2j


ALL = "; seen on video of 1 x 4 x 6 latent cells, video of 3 x 2 x 2 latent cells and 4 more"
CLIPS = "; seen on video of 3 x 2 x 2 latent cells, video of 5 x 4 x 6 latent cells and 3 more"
LONG = "; seen on video of 5 x 4 x 6 latent cells, video of 9 x 6 x 4 latent cells and 1 more"
IMAGE = "; seen on video of 1 x 4 x 6 latent cells"
HALVED = "; seen on video of 1 x 4 x 6 latent cells, video of 1 x 4 x 6 latent cells with media of 1 x 2 x 3 and 9 more"

WRONG: dict[type, str] = {
    InPlace: f"changes state.clean in place; make new tensors instead{ALL}",
    InPlaceMask: f"changes state.denoise_mask in place; make new tensors instead{CLIPS}",
    Drawn: f"draws from a global random number generator; only the core may draw random numbers{ALL}",
    DrawnByPython: f"draws from a global random number generator; only the core may draw random numbers{ALL}",
    Counting: f"changes itself in apply(); use @attrs.frozen and keep nothing between calls{ALL}",
    CountingElsewhere: f"returns different results for the same input{CLIPS}",
    OneValueASample: f"a condition gives [3] values, but the video has [3, 24] target tokens{ALL}",
    Percent: f"the values that a condition gives to the video range from 0 to 100{CLIPS}",
    FirstOfTheBatch: f"treats a sample differently alone than in a batch{LONG[:-6]}2 more",
    BatchOfThree: "refuses a sample alone that it accepts in a batch "
    f"(DataError: a condition gives [3, 24] values, but the video has [1, 24] target tokens){ALL}",
    WhatIsLeft: f"behaves differently after another condition than before it; do not read denoise_mask or appended{CLIPS}",
    AllTokens: "fails after another condition has given and appended tokens "
    f"(RuntimeError: The size of tensor a (24) must match the size of tensor b (25) at non-singleton dimension 0){ALL}",
    WithoutContent: f"fails in sampling, with the target as its medium: gives tokens of the target, but its class does not set `content`{CLIPS}",
    WrongEnd: 'sets content = "end", but gives tokens at the start: its medium must be 13 latent frames long, although 1 would be enough',
    WholeImage: f"leaves no token that is generated entirely, so the sample has no loss; refuse such samples with a DataError, or give nothing there{IMAGE}",
    ForgetsTheSound: "gives and appends nothing on any audio that it is tried on",
    Idle: "gives and appends nothing on any video that it is tried on",
    Picky: 'refuses every video that it is tried on, the last with "there is no frame 1000"; pass other parameters, or grids that suit it',
    Terse: f'refuses without a remedy: its error does not say what to do about "it is an image"{IMAGE}',
    Crashing: f"raises IndexError from apply(): list index out of range{LONG}",
    Undeclared: f'a condition asks for the role "mask" of kind "mask", but its class declares no such role{ALL}',
    SilentAppend: f"appends tokens, but its class does not say `appends = True`{HALVED}",
    AppendsTheTarget: f"behaves differently in sampling, with the target as its medium, than in training{ALL}",
    AppendsNaN: f"appends tokens that are not finite{ALL}",
    AppendsNowhere: f"appends positions that are not finite{ALL}",
    ForgetsItsRole: 'has the role "mask", but never asks for its data, so the key mask_dir has no effect',
    NeedsContent: 'in the flexible strategy, on generated video, refuses all samples that it is tried on, the last with "the clip is empty"; '
    "pass other keys, or grids that suit it",
    NumbersForTheLora: "returns {'factor': 2} from metadata(); it must return a mapping from texts to texts",
    NothingForTheLora: "accepts video of 1 x 4 x 6 latent cells, but raises TypeError from metadata(): list indices must be integers or slices, not str",
    MovesTheTarget: f"moves tokens that were there before it{ALL}",
    NotAttrs: "is not an attrs class",
    Untyped: 'has a field "every" without a type, so a run file could have any value there',
    Unwritable: "cannot be read again after it is written to a run file: the field \"every\" has the type <class 'complex'>, which a run file cannot hold",
    Incomparable: "does not equal itself after it is written to a run file and read again: it must compare by its parameters",
}


@pytest.mark.parametrize(("wrong", "said"), WRONG.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_condition_is_told_what_is_wrong_with_it(wrong: type, said: str) -> None:
    CALLS[0] = 0
    with pytest.raises(AssertionError) as caught:
        check_condition(wrong)
    heading = f"{wrong.__name__} breaks the protocol of conditions:\n"
    assert str(caught.value).startswith(heading)
    assert f"  - {said}" in str(caught.value).removeprefix(heading).split("\n")


def test_only_one_thing_is_said_of_a_condition_with_one_mistake() -> None:
    with pytest.raises(AssertionError) as caught:
        check_condition(WholeImage())
    assert str(caught.value) == f"WholeImage breaks the protocol of conditions:\n  - {WRONG[WholeImage]}"


def test_a_right_condition_passes() -> None:
    check_condition(Base())
    check_condition(Appending)


@pytest.mark.parametrize("value", [3, {"min": 1, "max": 3}])
def test_the_parameters_of_an_object_cannot_be_set(value: object) -> None:
    prefix = REGISTRY.get("condition", "prefix").value(temporal_boundary=1)
    with pytest.raises(AssertionError) as caught:
        check_condition(prefix, temporal_boundary=value)
    assert str(caught.value) == "temporal_boundary cannot be set on an object of Prefix, which has its parameters; pass the class itself"


def test_grids_may_be_given_for_one_modality_alone() -> None:
    prefix = REGISTRY.get("condition", "prefix").value
    check_condition(prefix, temporal_boundary=20, grids={"video": [Grid(41, 2, 2)]})
    check_strategy(both(), grids={"audio": [Grid(9, scale=(4, 1, 1))]})


def test_a_condition_is_tried_with_values_that_are_drawn() -> None:
    prefix = REGISTRY.get("condition", "prefix").value
    check_condition(prefix, temporal_boundary={"min": 1, "max": 3})
    with pytest.raises(AssertionError, match=r"with temporal_boundary = 300, Prefix breaks .*\n.*refuses every video that it is tried on"):
        check_condition(prefix, temporal_boundary={"one_of": [1, 300]})
    with pytest.raises(AssertionError, match=r"^temporal_boundary\.min: must be at least 1, not 0$"):
        check_condition(prefix, temporal_boundary={"min": 0, "max": 3})


def test_a_condition_is_tried_on_the_grids_that_its_author_chooses() -> None:
    prefix = REGISTRY.get("condition", "prefix").value
    with pytest.raises(AssertionError) as caught:
        check_condition(prefix, temporal_boundary=60)
    assert str(caught.value) == (
        "Prefix breaks the protocol of conditions:\n"
        '  - refuses every video that it is tried on, the last with "a prefix of 60 latent frames leaves nothing to generate in a sample of 13 latent frames"; '
        "pass other parameters, or grids that suit it"
    )
    check_condition(prefix, temporal_boundary=60, grids={"video": [Grid(61, 2, 2)], "audio": [Grid(100, scale=(4, 1, 1))]})


# ---------------------------------------------------------------- strategies


def both(generated: bool = True) -> Flexible:
    return Flexible(video=ModalityTable(True, "latents"), audio=ModalityTable(generated, "audio_latents"))


@attrs.frozen
class Altered:
    """The flexible strategy, with one method another."""

    changes: dict[str, str] = attrs.field(factory=dict)

    def build(self, setting: Any) -> Any:
        built = both().build(setting)
        return type("Built", (), {"__getattr__": lambda _, name: self._altered(built, name)})()

    def _altered(self, built: Any, name: str) -> Any:
        return ALTERED[name, self.changes[name]](built) if name in self.changes else getattr(built, name)


def evolved(built: Any, **fields: Any) -> Any:
    def prepare(batch: Any, draws: Any) -> Any:
        prepared = built.prepare(batch, draws)
        given = prepared["video"]
        return prepared | {"video": attrs.evolve(given, **{name: value(given) for name, value in fields.items()})}

    return prepare


def in_place(built: Any) -> Any:
    def prepare(batch: Any, draws: Any) -> Any:
        prepared = built.prepare(batch, draws)
        batch.latents["video"].rate.add_(1)
        return prepared

    return prepare


def crashing(*_: Any) -> Any:
    raise RuntimeError("boom")


def refusing(*_: Any) -> Any:
    raise DataError("no", remedy="Yes.")


def losing(built: Any, change: Any) -> Any:
    return lambda predicted, prepared: {name: change(loss) for name, loss in built.loss(predicted, prepared).items()}


ALTERED: dict[tuple[str, str], Any] = {
    ("sources", "of text"): lambda built: lambda: {name: source for name, source in built.sources().items() if name == "text"},
    ("sources", "of no text"): lambda built: lambda: {name: source for name, source in built.sources().items() if name != "text"},
    ("sources", "a list"): lambda built: lambda: ["latents"],
    ("sources", "of smell"): lambda built: lambda: built.sources() | {"smell": attrs.evolve(built.sources()["video"], modality="smell")},
    ("check", "crashing"): lambda built: crashing,
    ("check", "refusing"): lambda built: refusing,
    ("wanted", "smell"): lambda built: lambda draws: frozenset({"smell"}),
    ("prepare", "crashing"): lambda built: crashing,
    ("prepare", "in place"): in_place,
    ("prepare", "drawn"): lambda built: evolved(built, tokens=lambda given: given.tokens + torch.rand(1)),
    ("prepare", "by the batch"): lambda built: evolved(built, tokens=lambda given: given.tokens - given.tokens.mean()),
    ("prepare", "by those after it"): lambda built: evolved(
        built, tokens=lambda given: given.tokens + torch.cat([given.tokens[1:], torch.zeros_like(given.tokens[:1])])
    ),
    ("prepare", "for three"): lambda built: evolved(built, tokens=lambda given: given.tokens.reshape(3, *given.tokens.shape[1:])),
    ("prepare", "one sigma"): lambda built: evolved(built, sigma=lambda given: given.sigma[:1]),
    ("prepare", "noisy"): lambda built: evolved(built, timesteps=lambda given: given.timesteps * 2),
    ("prepare", "half"): lambda built: evolved(built, sigma=lambda given: given.sigma.half().float().double()),
    ("prepare", "marks a guide"): lambda built: evolved(
        built, marked=lambda given: torch.ones(given.tokens.shape[:2], dtype=torch.bool), clean=lambda given: given.clean[:, :-1]
    ),
    ("prepare", "marks numbers"): lambda built: evolved(built, marked=lambda given: given.marked.float()),
    ("prepare", "marks by the batch"): lambda built: evolved(built, marked=lambda given: given.marked & (given.tokens.shape[0] > 1)),
    ("prepare", "nothing"): lambda built: (
        lambda batch, draws: {n: attrs.evolve(g, is_generated=False) for n, g in built.prepare(batch, draws).items()}
    ),
    ("shared_sigma", "says so"): lambda built: True,
    ("loss", "crashing"): lambda built: crashing,
    ("loss", "a mean"): lambda built: losing(built, lambda loss: loss.mean()),
    ("loss", "by the batch"): lambda built: losing(built, lambda loss: loss * loss / loss.mean()),
    ("loss", "for three"): lambda built: losing(built, lambda loss: loss.reshape(3)),
    ("loss", "infinite"): lambda built: losing(built, lambda loss: loss / 0),
    ("loss", "detached"): lambda built: losing(built, lambda loss: loss.detach()),
    ("loss", "of nothing"): lambda built: losing(built, lambda loss: loss * 0),
    ("loss", "of smell"): lambda built: lambda predicted, prepared: {"smell": built.loss(predicted, prepared)["video"]},
    ("metadata", "of numbers"): lambda built: lambda data: {"factor": 2},
}
SHAPES = "; seen on video of 1 x 4 x 6 and audio of 1, video of 3 x 2 x 2 and audio of 6 and 3 more"
STRATEGY_FAULTS = {
    ("sources", "of text"): 'has no source "video" or "audio" of kind "latents", which holds what is trained',
    ("sources", "of no text"): 'has no source "text" of kind "text", which holds the captions',
    ("sources", "a list"): "returns ['latents'] from sources(); it must return a mapping from roles to ltxcore.api.Source",
    ("sources", "of smell"): 'has a source "smell" of the modality \'smell\'; it must be "video" or "audio"',
    ("check", "crashing"): "raises RuntimeError from check(): boom; seen on video of 1 x 4 x 6 and audio of 1",
    ("check", "refusing"): 'refuses all samples that it is tried on, the last with "no"; pass other keys, or grids that suit it',
    ("wanted", "smell"): f"asks for roles that are not among its sources: smell{SHAPES}",
    ("prepare", "crashing"): f"passes check(), but raises RuntimeError from prepare(): boom{SHAPES}",
    ("prepare", "in place"): f'changes batch.latents["video"].rate in place; make new tensors instead{SHAPES}',
    ("prepare", "drawn"): f"draws from the global random number generator; take numbers from draws{SHAPES}",
    ("prepare", "by the batch"): f"prepares a different video.tokens for a sample alone than for the same sample in a micro-batch{SHAPES}",
    (
        "prepare",
        "by those after it",
    ): f"prepares a different video.tokens for a sample alone than for the same sample in a micro-batch{SHAPES}",
    ("prepare", "for three"): "raises RuntimeError from prepare() for a sample alone: shape '[3, 24, 2]' is invalid for input of size 48"
    f"{SHAPES}",
    ("prepare", "one sigma"): f"prepares video.sigma [1] for tokens [3, 24, ...]; it must be [3]{SHAPES}",
    ("prepare", "noisy"): f"prepares video.timesteps that are not between 0 and sigma, apart from the levels of given tokens{SHAPES}",
    ("prepare", "half"): f"prepares video.sigma in torch.float64; it must be float32{SHAPES}",
    ("prepare", "marks a guide"): f"marks appended tokens; only the target's first latent frame may be marked{SHAPES}",
    ("prepare", "marks numbers"): f"prepares video.marked [3, 24] in torch.float32; it must be [3, 24] in torch.bool{SHAPES}",
    (
        "prepare",
        "marks by the batch",
    ): f"prepares a different video.marked for a sample alone than for the same sample in a micro-batch{SHAPES}",
    ("prepare", "nothing"): f"generates no modality{SHAPES}",
    ("shared_sigma", "says so"): f"sets shared_sigma, but its modalities have different sigmas{SHAPES}",
    ("loss", "crashing"): f"raises RuntimeError from loss(): boom{SHAPES}",
    ("loss", "a mean"): f"has a loss of shape [] for video; it must be one number per sample, [B]{SHAPES}",
    ("loss", "by the batch"): f"returns a different loss for a single sample than for the same sample in a micro-batch{SHAPES}",
    ("loss", "for three"): f"raises RuntimeError from loss() for a sample alone: shape '[3]' is invalid for input of size 1{SHAPES}",
    ("loss", "infinite"): f"has a loss for video that is not finite{SHAPES}",
    ("loss", "detached"): f"has a loss that does not depend on what is predicted{SHAPES}",
    ("loss", "of nothing"): f"has a loss for video whose gradient is zero or not finite{SHAPES}",
    ("loss", "of smell"): f"has losses of ['smell'], but generates ['audio', 'video']{SHAPES}",
    ("metadata", "of numbers"): f"returns {{'factor': 2}} from metadata(); it must return a mapping from texts to texts{SHAPES}",
}


@pytest.mark.parametrize("tables", [both(), both(False), Flexible(audio=ModalityTable(True, "audio_latents"))])
def test_the_flexible_strategy_keeps_to_the_protocol(tables: Flexible) -> None:
    check_strategy(tables)


def test_a_strategy_that_alters_nothing_passes() -> None:
    check_strategy(Altered)


@pytest.mark.parametrize(("change", "said"), STRATEGY_FAULTS.items(), ids=[" ".join(change) for change in STRATEGY_FAULTS])
def test_a_wrong_strategy_is_told_what_is_wrong_with_it(change: tuple[str, str], said: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_strategy(Altered, changes=dict([change]))
    heading = "Altered breaks the protocol of strategies:\n"
    assert str(caught.value).startswith(heading)
    assert f"  - {said}" in str(caught.value).removeprefix(heading).split("\n"), str(caught.value)


@attrs.frozen
class Unbuilt:
    def build(self, setting: Any) -> Any:
        return setting.condition("no_such_condition")


@attrs.frozen
class Bare:
    key = attrs.field(default=1)


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Bare, "has no method build()"),
        (NotAttrs, "is not an attrs class"),
        (
            Unbuilt,
            'raises ConfigError from build(): there is no condition "no_such_condition"\n    '
            "Known: first_frame, hole, keyframes, mask, prefix, reference, spatial_crop, suffix.",
        ),
    ],
)
def test_a_table_that_is_none_is_told_what_is_wrong_with_it(cls: type, said: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_strategy(cls)
    assert str(caught.value) == f"{cls.__name__} breaks the protocol of strategies:\n  - {said}"


# ---------------------------------------------------------------- imports


def test_a_plugin_that_imports_nothing_heavy_passes() -> None:
    check_imports_lightly("ltxplugins.conditions.reference")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import torch", "imports torch when it is imported; import that only in the function that needs it"),
        (
            "from ltxcore.models.load_base import load_backbone",
            "imports torch when it is imported; import that only in the function that needs it",
        ),
        ("import os; os._exit(3)", "cannot be imported: it ends Python with the exit status 3"),
        ("import no_such_package", "cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
    ],
)
def test_a_plugin_that_imports_torch_when_it_is_imported_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    with site(tmp_path / "site") as found:
        found.install("ltx-heavy", {"heavy": "ltx_heavy"}, {"ltx_heavy.py": source})
        monkeypatch.setenv("PYTHONPATH", str(found.folder))
        with pytest.raises(AssertionError) as caught:
            check_imports_lightly("ltx_heavy")
    assert str(caught.value) == f"ltx_heavy {said}"
