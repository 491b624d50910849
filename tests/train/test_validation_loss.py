"""The held-out loss: the same question each time, by condition, with the context of another clip, and with one part of it."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import attrs
import pytest
import torch

from helpers.optimizers import optimization
from helpers.training_runs import put, put_sound
from ltxcore.choices import choice_uses, every_list
from ltxcore.conditions import ConditionUse
from ltxcore.drawn import Range
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.store import DAMAGED
from ltxcore.engines.single import SingleEngine, single_engine
from ltxcore.errors import DataError
from ltxcore.flow.draws import CountedDraws
from ltxcore.flow.sigmas import Uniform
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.modality_tables import Choice, ModalityTable
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters
from ltxcore.protocols import MODALITIES, ModelInput, Setting
from ltxcore.registry import load
from ltxcore.strategy import Flexible
from ltxcore.train.conditioning_swap import CONTEXTS, OTHER, OWN
from ltxcore.train.feed import Samples
from ltxcore.train.validation_loss import EPOCH, SIGMAS, ClipLoss, FixedSigma, HeldOut, ratio, statistics

REGISTRY = load()
CPU = torch.device("cpu")
KEYS = [f"audio/sigma_{sigma:.2f}" for sigma in SIGMAS]


def use(type: str, probability: float = 1.0, sources: dict[str, str] | None = None, **fields: object) -> ConditionUse:
    return ConditionUse(type, REGISTRY.get("condition", type).value(**fields), probability, sources or {})


MASK = use("mask", sources={"mask": "audio_masks"})


def put_picture(root: Path, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    put(root, "latents", f"sound{number:02d}", {"latents": torch.randn(128, 2, 1, 1, generator=generator)}, rate=16.0)


def held_out(root: Path, table: Flexible, names: list[str], batch_size: int = 8, seed: int = 1) -> HeldOut:
    setting = Setting({"video": VideoModality(), "audio": AudioModality()}, Uniform())
    sources = table.build(setting).sources()
    return HeldOut.of(table.build, setting, names, Samples(root, sources, read_manifest(root, sources)), batch_size, seed)


def audio_only(*conditions: ConditionUse) -> Flexible:
    return Flexible(audio=ModalityTable(True, "audio_latents", list(conditions)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("held-out")
    for number in range(5):
        put_sound(path, number)
        put_picture(path, number)
        put(path, "reference_audio_latents", f"sound{number:02d}", {"latents": torch.full((8, 4, 16), float(number))})
    return path


NAMES = [f"sound{number:02d}" for number in range(5)]


@pytest.fixture(scope="module")
def models() -> dict[frozenset[str], tuple[SingleEngine, LTXBackbone]]:
    found = {}
    for modalities in (frozenset({"audio"}), frozenset({"video", "audio"})):
        backbone = load_backbone("tiny-untrained", modalities, dtype=torch.float32)
        add_lora(backbone, rank=2, alpha=2, dropout=0.5, target_modules=["audio_attn1.to_q"])
        engine = single_engine(backbone, lora_parameters(backbone), optimization(steps=4), precision="no", device=CPU)
        found[modalities] = engine, backbone
    return found


def recorded(held: HeldOut, engine: SingleEngine, backbone: LTXBackbone, context: str) -> list[dict[str, ModelInput | None]]:
    """What the model saw, forward by forward."""
    seen: list[dict[str, ModelInput | None]] = []
    handle = backbone.register_forward_pre_hook(lambda module, given: seen.append({"video": given[0], "audio": given[1]}))
    held.measure(engine, backbone, context)
    handle.remove()
    return seen


AUDIO, BOTH = frozenset({"audio"}), frozenset({"video", "audio"})


def test_each_sigma_has_its_mean_over_clips_and_the_condition_its_own(root: Path, models: dict) -> None:
    engine, backbone = models[AUDIO]
    found = held_out(root, audio_only(MASK), NAMES).measure(engine, backbone)
    means = {f"held_out/{OWN}/{key}{end}" for key in KEYS for end in ("", "/audio.cond0.mask/applied")}
    assert found.keys() == {f"held_out/{OWN}/clips", *means, *(f"half_width_95/{key}" for key in means)}
    assert found[f"held_out/{OWN}/clips"] == 5
    alone = [held_out(root, audio_only(MASK), [name]).measure(engine, backbone) for name in NAMES]
    for key in KEYS:
        mean = sum(one[f"held_out/{OWN}/{key}"] for one in alone) / 5
        assert found[f"held_out/{OWN}/{key}"] == pytest.approx(mean, rel=1e-5)


def test_a_clip_whose_file_was_damaged_after_listing_is_named(root: Path, models: dict, tmp_path: Path) -> None:
    engine, backbone = models[AUDIO]
    held = held_out(shutil.copytree(root, tmp_path / "set"), audio_only(), NAMES)
    path = held.samples.root / "audio_latents" / f"{NAMES[3]}.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\xc0\x7f")
    with pytest.raises(DataError) as caught:
        held.measure(engine, backbone)
    assert [(problem.where, problem.what) for problem in caught.value.problems] == [(str(path), DAMAGED)]


def test_the_measure_does_not_depend_on_the_batch_size_nor_on_dropout_nor_on_the_global_generator(root: Path, models: dict) -> None:
    engine, backbone = models[AUDIO]
    backbone.train()
    torch.manual_seed(0)
    first = held_out(root, audio_only(MASK), NAMES).measure(engine, backbone)
    state = torch.get_rng_state()
    again = held_out(root, audio_only(MASK), NAMES, batch_size=2).measure(engine, backbone)
    assert torch.equal(torch.get_rng_state(), state)
    assert first == pytest.approx(again, rel=1e-5)
    assert backbone.training


def test_a_condition_with_a_probability_is_measured_where_it_applied_and_where_not(root: Path, models: dict) -> None:
    engine, backbone = models[AUDIO]
    held = held_out(root, audio_only(use("prefix", 0.5, temporal_boundary=2)), NAMES)
    applied = CountedDraws(1, EPOCH, tuple(NAMES), "any").uniform("audio.cond0.prefix.u") < 0.5
    assert 0 < int(applied.sum()) < 5
    found = held.measure(engine, backbone)
    mean = found[f"held_out/{OWN}/{KEYS[2]}"]
    parts = [found[f"held_out/{OWN}/{KEYS[2]}/audio.cond0.prefix/{part}"] for part in ("applied", "not_applied")]
    share = float(applied.float().mean())
    assert mean == pytest.approx(share * parts[0] + (1 - share) * parts[1], rel=1e-5)


def drawn_prefix(probability: float = 1.0) -> ConditionUse:
    return attrs.evolve(use("prefix", probability, temporal_boundary=1), drawn={"temporal_boundary": Range(1, 6)})


@pytest.mark.parametrize("probability", [1.0, 0.5])
def test_a_range_is_measured_with_each_clips_own_draw_and_at_both_ends(root: Path, models: dict, probability: float) -> None:
    engine, backbone = models[AUDIO]
    held, key = held_out(root, audio_only(drawn_prefix(probability)), NAMES), "audio.cond0.prefix/temporal_boundary"
    found = held.measure(engine, backbone)
    draws = CountedDraws(1, EPOCH, tuple(NAMES), "any")
    applied = draws.uniform("audio.cond0.prefix.u") < probability
    own = {1 + int(6 * u) for u, here in zip(draws.uniform("audio.cond0.prefix.value.temporal_boundary"), applied, strict=True) if here}
    assert {name.rpartition("_")[2] for name in found if name.startswith(f"held_out/{OWN}/{KEYS[0]}/{key}_")} == set(map(str, own))
    for end, length in (("min", 1), ("max", 6)):
        fixed = held_out(root, audio_only(use("prefix", probability, temporal_boundary=length)), NAMES).measure(engine, backbone)
        assert found[f"held_out/{OWN}/{KEYS[2]}/{key}_{end}"] == pytest.approx(
            fixed[f"held_out/{OWN}/{KEYS[2]}/audio.cond0.prefix/applied"], rel=1e-6
        )
        assert f"held_out/{OWN}/{KEYS[0]}/{key}_{end}" not in found
    assert found[f"held_out/{OWN}/clips"] == 5
    again = held_out(root, audio_only(drawn_prefix(probability)), NAMES, batch_size=2).measure(engine, backbone)
    assert found == pytest.approx(again, rel=1e-5, abs=1e-6)  # half widths are differences of losses


def test_a_choice_is_measured_with_each_clips_own_list_and_with_every_list(root: Path, models: dict) -> None:
    engine, backbone = models[AUDIO]
    lists = [[use("prefix", temporal_boundary=3)], [use("suffix", temporal_boundary=2)], []]
    table = ModalityTable(True, "audio_latents", choices=[Choice(lists, weights=[1.0, 3.0, 2.0])])
    found = held_out(root, Flexible(audio=table), NAMES).measure(engine, backbone)
    key, names = f"held_out/{OWN}/{KEYS[2]}", ("0_prefix", "1_suffix", "2_nothing")
    for name, uses in zip(names, lists, strict=True):
        alone = held_out(root, audio_only(*uses), NAMES).measure(engine, backbone)
        assert found[f"{key}/audio.choice0/every_{name}"] == pytest.approx(alone[key], rel=1e-6)
    own = CountedDraws(1, EPOCH, tuple(NAMES), "any").uniform("audio.choice0.value.one_of") * 6
    drawn = {names[(u >= 1) + (u >= 4)] for u in own.tolist()}
    assert {name for name in names if f"{key}/audio.choice0/one_of_{name}" in found} == drawn


def test_choices_drawn_together_are_measured_together() -> None:
    both = [Choice([[use("prefix", temporal_boundary=2)], []], together=True) for _ in range(2)]
    tables = {name: ModalityTable(True, name, choices=[Choice([[], []]), each]) for name, each in zip(MODALITIES, both, strict=True)}
    assert list(every_list(choice_uses(tables)))[2:4] == [
        ("video.choice1/every_0_prefix", "choice.together0/one_of", 0.25),
        ("video.choice1/every_1_nothing", "choice.together0/one_of", 0.75),
    ]


def test_ends_of_a_range_are_not_asked_for_in_the_context_of_another_clip(root: Path, models: dict) -> None:
    engine, backbone = models[AUDIO]
    held = held_out(root, audio_only(drawn_prefix()), NAMES)
    assert [len(recorded(held, engine, backbone, context)) for context in (OWN, OTHER)] == [5, 3]


def test_another_clips_context_changes_what_is_given_and_the_text_but_neither_target_nor_noise(root: Path, models: dict) -> None:
    engine, backbone = models[AUDIO]
    held = held_out(root, audio_only(MASK), NAMES)
    own, other = (recorded(held, engine, backbone, context) for context in (OWN, OTHER))
    assert len(own) == len(other) == len(SIGMAS)
    for one, two in zip(own, other, strict=True):
        mine, theirs = one["audio"], two["audio"]
        given = mine.denoise_mask[0] == 0
        assert int(given.sum()) == 4
        assert torch.equal(mine.tokens[:, ~given], theirs.tokens[:, ~given])
        assert torch.equal(mine.tokens[:, given].roll(-1, 0), theirs.tokens[:, given])
        assert torch.equal(mine.context.roll(-1, 0), theirs.context)
        for field in ("sigma", "timesteps", "denoise_mask", "velocity", "noise", "loss_mask", "clean"):
            assert torch.equal(getattr(mine, field), getattr(theirs, field))


def test_tokens_given_in_part_take_the_other_clips_content_at_their_own_level_and_noise(tmp_path: Path, models: dict) -> None:
    engine, backbone = models[AUDIO]
    for number in range(2):
        put_sound(tmp_path, number)
        put(tmp_path, "audio_masks", f"sound{number:02d}", {"mask": torch.tensor([0.25] * 4 + [0.0] * 4)})
    held = held_out(tmp_path, audio_only(MASK), NAMES[:2])
    own, other = (recorded(held, engine, backbone, context)[2]["audio"] for context in (OWN, OTHER))
    clean = own.clean.roll(-1, 0)
    level = 0.9 * 0.75
    torch.testing.assert_close(other.tokens[:, :4], clean[:, :4] + level * (own.noise[:, :4] - clean[:, :4]))
    assert torch.equal(other.tokens[:, 4:], own.tokens[:, 4:])


def test_references_and_a_frozen_modality_are_the_other_clips(root: Path, models: dict) -> None:
    engine, backbone = models[BOTH]
    reference = use("reference", sources={"reference": "reference_audio_latents"})
    table = Flexible(video=ModalityTable(False, "latents"), audio=ModalityTable(True, "audio_latents", [reference]))
    own, other = (recorded(held_out(root, table, NAMES), engine, backbone, context)[0] for context in (OWN, OTHER))
    assert torch.equal(own["video"].tokens.roll(-1, 0), other["video"].tokens)
    assert torch.equal(own["audio"].tokens[:, 8:].roll(-1, 0), other["audio"].tokens[:, 8:])
    assert torch.equal(own["audio"].tokens[:, :8], other["audio"].tokens[:, :8])


def seen_by_context(root: Path, table: Flexible, models: dict) -> dict[str, dict[str, ModelInput | None]]:
    """What the model saw at the highest sigma, in the contexts that it was asked in."""
    engine, backbone = models[BOTH]
    seen = {context: recorded(held_out(root, table, NAMES), engine, backbone, context) for context in CONTEXTS}
    return {context: forwards[-1] for context, forwards in seen.items() if forwards}


def test_one_part_of_the_context_can_be_another_clips_at_the_highest_sigma(root: Path, models: dict) -> None:
    reference = use("reference", sources={"reference": "reference_audio_latents"})
    table = Flexible(video=ModalityTable(False, "latents"), audio=ModalityTable(True, "audio_latents", [MASK, reference]))
    seen = seen_by_context(root, table, models)
    assert seen.keys() == CONTEXTS.keys()
    given = seen[OWN]["audio"].denoise_mask[0, :8] == 0
    changed = {
        "text": lambda inputs: inputs["audio"].context,
        "given": lambda inputs: inputs["audio"].tokens[:, :8][:, given],
        "frozen": lambda inputs: inputs["video"].tokens,
        "references": lambda inputs: inputs["audio"].tokens[:, 8:],
    }
    for context, parts in CONTEXTS.items():
        for part, of in changed.items():
            expected = of(seen[OWN]).roll(-1, 0) if part in parts else of(seen[OWN])
            assert torch.equal(of(seen[context]), expected), (context, part)
        assert torch.equal(seen[context]["audio"].tokens[:, :8][:, ~given], seen[OWN]["audio"].tokens[:, :8][:, ~given])
        assert torch.equal(seen[context]["audio"].velocity, seen[OWN]["audio"].velocity)


def test_a_part_that_a_run_does_not_have_is_not_asked_for(root: Path, models: dict) -> None:
    table = Flexible(video=ModalityTable(True, "latents"), audio=ModalityTable(True, "audio_latents"))
    assert seen_by_context(root, table, models).keys() == {OWN, OTHER, "other_text"}


def test_a_part_that_a_clip_does_not_have_leaves_it_out_and_the_ratio_is_over_the_others(root: Path, models: dict) -> None:
    engine, backbone = models[AUDIO]
    held = held_out(root, audio_only(use("prefix", 0.5, temporal_boundary=2)), NAMES)
    applied = CountedDraws(1, EPOCH, tuple(NAMES), "any").uniform("audio.cond0.prefix.u") < 0.5
    found = held.measure(engine, backbone, OWN, "other_given")
    key = f"{KEYS[2]}/audio.cond0.prefix/applied"
    assert found["held_out/other_given/clips"] == int(applied.sum())
    own, other = found[f"held_out/{OWN}/{key}"], found[f"held_out/other_given/{key}"]
    assert found[f"held_out/other_given/{KEYS[2]}"] == pytest.approx(other)
    assert found[f"held_out_ratio/other_given/{KEYS[2]}"] == pytest.approx(own / other)


def row(clip: str, context: str, loss: float) -> ClipLoss:
    return ClipLoss(clip, context, "audio", 0.9, loss)


def test_the_interval_of_a_mean_is_1_96_standard_errors() -> None:
    found = statistics([row("a", OWN, 1.0), row("b", OWN, 2.0), row("c", OWN, 6.0)])
    assert found[f"held_out/{OWN}/{KEYS[2]}"] == 3.0
    assert found[f"half_width_95/held_out/{OWN}/{KEYS[2]}"] == pytest.approx(1.96 * math.sqrt(7.0 / 3))


def test_the_ratio_is_that_of_the_means_and_its_interval_that_of_pairs() -> None:
    assert ratio([(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)]) == pytest.approx((0.5, 0.0))
    value, half_width = ratio([(1.0, 2.0), (3.0, 2.0)])
    assert value == pytest.approx(1.0)
    assert half_width == pytest.approx(1.96 * math.sqrt(2.0 / 2) / 2.0)
    assert ratio([(1.0, 4.0)]) == (0.25, None)


def test_the_interval_of_a_ratio_holds_the_true_one_95_times_in_a_hundred() -> None:
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(400):
        other = 1 + 0.3 * torch.randn(64, generator=generator)
        own = 0.6 * other + 0.1 * torch.randn(64, generator=generator)
        value, half_width = ratio(list(zip(own.tolist(), other.tolist(), strict=True)))
        hits += abs(value - 0.6) <= half_width
    assert 0.91 * 400 <= hits <= 0.98 * 400


def test_a_clip_of_a_shape_of_its_own_has_no_other_context_and_is_left_out_of_that_mean(tmp_path: Path, models: dict) -> None:
    engine, backbone = models[AUDIO]
    for number in range(2):
        put_sound(tmp_path, number)
    put_sound(tmp_path, 2, steps=6)
    held = held_out(tmp_path, audio_only(MASK), NAMES[:3])
    assert held.measure(engine, backbone)[f"held_out/{OWN}/clips"] == 3
    assert held.measure(engine, backbone, OTHER)[f"held_out/{OTHER}/clips"] == 2


def test_no_clip_is_left_over_alone_where_others_have_its_shape(root: Path, models: dict) -> None:
    engine, backbone = models[AUDIO]
    held = held_out(root, audio_only(MASK), NAMES, batch_size=2)
    assert held.measure(engine, backbone, OTHER)[f"held_out/{OTHER}/clips"] == 5


def test_a_fixed_sigma_is_every_samples() -> None:
    assert FixedSigma(0.3).sample(CountedDraws(0, 0, ("a", "b"), "x"), "audio", 5).tolist() == pytest.approx([0.3, 0.3])
