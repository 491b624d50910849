"""The flexible strategy agrees with what was recorded, and refuses what makes no sense."""

from __future__ import annotations

import json

import attrs
import pytest
import torch

from helpers.golden_draws import Recorded, assert_as_recorded, batch_of, strategy_of, target_last
from helpers.golden_io import Case, list_cases, load_case
from ltxcore.conditions import ConditionUse
from ltxcore.errors import ConfigError, DataError
from ltxcore.flow.draws import CountedDraws
from ltxcore.flow.sigmas import Uniform
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.modality_tables import ModalityTable, VideoTable
from ltxcore.protocols import Batch, Entry, Manifest, Setting, StoredLatents, Text
from ltxcore.registry import load
from ltxcore.strategy import Flexible

REGISTRY = load()
CASES = [(group, case) for group in ("01_flexible", "02_soft_mask") for case in list_cases(group)]


def condition(name: str, probability: float = 1.0, sources: dict[str, str] | None = None, **fields: object) -> ConditionUse:
    return ConditionUse(name, REGISTRY.get("condition", name).value(**fields), probability, sources or {})


def setting(shared_sigma: bool = False) -> Setting:
    return Setting({"video": VideoModality(), "audio": AudioModality()}, Uniform(), shared_sigma)


def video(frames: int = 3, height: int = 2, width: int = 2, rate: float = 24.0, size: int = 2) -> StoredLatents:
    return StoredLatents(
        torch.randn(size, 4, frames, height, width, generator=torch.Generator().manual_seed(frames)), torch.full((size,), rate)
    )


def audio(steps: int = 5, size: int = 2) -> StoredLatents:
    return StoredLatents(torch.randn(size, 8, steps, 16, generator=torch.Generator().manual_seed(steps)), torch.full((size,), 25.0))


def batch(latents: dict[str, StoredLatents], masks: dict[str, torch.Tensor] | None = None) -> Batch:
    size = next(iter(latents.values())).latents.shape[0]
    text = Text({"video": torch.ones(size, 2, 3), "audio": torch.ones(size, 2, 3)}, torch.ones(size, 2))
    return Batch(tuple(f"clip{i}" for i in range(size)), latents, masks or {}, text)


def draws(names: tuple[str, ...] = ("clip0", "clip1")) -> CountedDraws:
    return CountedDraws(7, 0, names, "0.0")


@pytest.mark.parametrize(("group", "name"), CASES)
def test_what_the_model_sees_and_the_loss_agree_with_the_recording(group: str, name: str) -> None:
    case = load_case(group, name)
    strategy = strategy_of(case.config)
    given = batch_of(case, strategy)
    prepared = strategy.prepare(given, Recorded(case.draws, len(given.names)))
    assert_as_recorded(case, prepared)
    loss = sum(strategy.loss(predictions(case, prepared), prepared).values())
    torch.testing.assert_close(loss, case.outputs["loss"], check_dtype=False, **case.tolerance)


def predictions(case: Case, prepared: dict) -> dict[str, torch.Tensor]:
    return {m: target_last(case.inputs[f"{m}_pred"], p.clean.shape[1], 1) for m, p in prepared.items() if f"{m}_pred" in case.inputs}


@pytest.mark.parametrize("name", list_cases("01_flexible"))
def test_the_lora_carries_the_reference_factors_that_were_recorded(name: str) -> None:
    case = load_case("01_flexible", name)
    strategy = strategy_of(case.config)
    given = batch_of(case, strategy)
    entries = {role: {"clip": Entry(tuple(s.latents.shape[1:]), float(s.rate[0]))} for role, s in given.latents.items()}
    wanted = {key: str(value) for key, value in case.scalars.get("checkpoint_metadata", {}).items()}
    assert strategy.metadata(Manifest(entries)) == wanted


def test_a_mask_is_soft_where_the_recorded_trainer_thresholds() -> None:
    table = ModalityTable(True, "audio_latents", [condition("mask", sources={"mask": "audio_masks"})])
    mask = torch.tensor([[0.0, 0.25, 0.5, 0.75, 1.0]] * 2)
    prepared = Flexible(audio=table).build(setting()).prepare(batch({"audio": audio()}, {"audio.cond0.mask": mask}), draws())["audio"]
    torch.testing.assert_close(prepared.timesteps, prepared.sigma.unsqueeze(1) * (1 - mask))
    assert prepared.loss_mask.tolist() == [[True, False, False, False, False]] * 2


def test_the_order_of_references_and_masks_does_not_matter() -> None:
    mask = condition("mask", sources={"mask": "audio_masks"})
    reference = condition("reference", sources={"reference": "reference_audio_latents"})
    values = torch.rand(2, 5, generator=torch.Generator().manual_seed(0))
    found = []
    for order in ([mask, reference], [reference, mask]):
        strategy = Flexible(audio=ModalityTable(True, "audio_latents", order)).build(setting())
        m, r = order.index(mask), order.index(reference)
        given = batch({"audio": audio(), f"audio.cond{r}.reference": audio(4)}, {f"audio.cond{m}.mask": values})
        found.append(strategy.prepare(given, draws())["audio"])
    assert torch.equal(found[0].tokens, found[1].tokens)
    assert torch.equal(found[0].timesteps, found[1].timesteps)
    assert torch.equal(found[0].positions, found[1].positions)


def test_first_frame_on_a_single_frame_clip_gives_nothing_and_the_image_trains() -> None:
    strategy = Flexible(video=ModalityTable(True, "latents", [condition("first_frame")])).build(setting())
    prepared = strategy.prepare(batch({"video": video(frames=1)}), draws())["video"]
    assert bool(prepared.loss_mask.all())
    assert bool((prepared.denoise_mask == 1).all())


def test_each_sample_of_a_batch_keeps_its_own_frame_rate() -> None:
    latents = video()
    latents = StoredLatents(latents.latents, torch.tensor([24.0, 12.0]))
    prepared = Flexible(video=ModalityTable(True, "latents")).build(setting()).prepare(batch({"video": latents}), draws())["video"]
    torch.testing.assert_close(prepared.positions[1, 0], prepared.positions[0, 0] * 2)


def test_the_inputs_have_the_grid_by_which_an_objective_can_unfold_tokens_on_any_device() -> None:
    stored, tables = {"video": video(), "audio": audio()}, {"video": ModalityTable(True, "latents"), "audio": ModalityTable(False, "audio")}
    found = Flexible(**tables).build(setting()).prepare(batch(stored), draws())
    grid = found["video"].to("meta").grid
    assert (grid.frames, grid.height, grid.width) == (3, 2, 2)
    unfolded = found["video"].clean.unflatten(1, (grid.frames, grid.height, grid.width))
    assert torch.equal(unfolded.movedim(-1, 1), stored["video"].latents)
    assert found["audio"].grid.frames == 5


def test_bf16_latents_give_a_float32_velocity() -> None:
    stored = video()
    stored = StoredLatents(stored.latents.bfloat16(), stored.rate)
    prepared = Flexible(video=ModalityTable(True, "latents")).build(setting()).prepare(batch({"video": stored}), draws())["video"]
    assert prepared.velocity.dtype == torch.float32
    torch.testing.assert_close(prepared.velocity, prepared.noise - stored.latents.float().flatten(2).transpose(1, 2), rtol=0, atol=0)


def test_a_frozen_modality_is_clean_and_has_no_sigma_and_no_loss() -> None:
    strategy = Flexible(video=ModalityTable(False, "latents"), audio=ModalityTable(True, "audio_latents")).build(setting())
    prepared = strategy.prepare(batch({"video": video(), "audio": audio()}), draws())
    assert torch.equal(prepared["video"].tokens, prepared["video"].clean)
    assert prepared["video"].sigma.tolist() == [0.0, 0.0]
    assert not prepared["video"].timesteps.any()
    losses = strategy.loss({m: torch.zeros_like(p.tokens) for m, p in prepared.items()}, prepared)
    assert list(losses) == ["audio"]


def test_video_and_audio_draw_their_own_sigma_unless_one_is_asked_for() -> None:
    tables = Flexible(video=ModalityTable(True, "latents"), audio=ModalityTable(True, "audio_latents"))
    given = batch({"video": video(), "audio": audio()})
    own = tables.build(setting()).prepare(given, draws())
    shared = tables.build(setting(shared_sigma=True)).prepare(given, draws())
    assert not torch.equal(own["video"].sigma, own["audio"].sigma)
    assert torch.equal(shared["video"].sigma, shared["audio"].sigma)
    assert torch.equal(shared["video"].sigma, own["video"].sigma)


def test_a_shared_sigma_leaves_a_frozen_modality_clean() -> None:
    tables = Flexible(video=ModalityTable(False, "latents"), audio=ModalityTable(True, "audio_latents"))
    strategy = tables.build(setting(shared_sigma=True))
    prepared = strategy.prepare(batch({"video": video(), "audio": audio()}), draws())
    assert not strategy.shared_sigma
    assert bool((prepared["audio"].sigma > 0).all())


def test_a_probability_is_drawn_for_each_sample_where_tokens_are_given() -> None:
    strategy = Flexible(video=ModalityTable(True, "latents", [condition("first_frame", 0.5)])).build(setting())
    names = tuple(f"clip{i}" for i in range(400))
    prepared = strategy.prepare(batch({"video": video(size=400)}), draws(names))["video"]
    applied = prepared.applied["video.cond0.first_frame"]
    assert 160 < int(applied.sum()) < 240
    assert torch.equal((prepared.denoise_mask == 0).any(dim=1), applied)


def test_a_probability_is_drawn_for_the_whole_batch_where_tokens_are_appended() -> None:
    use = condition("reference", 0.5, {"reference": "reference_latents"})
    strategy = Flexible(video=ModalityTable(True, "latents", [use])).build(setting())
    applied = 0
    for number in range(100):
        own = CountedDraws(7, 0, ("clip0", "clip1"), f"0.{number}")
        wanted = strategy.wanted(own)
        given = {"video": video()} | {role: video() for role in wanted}
        prepared = strategy.prepare(batch(given), own)["video"]
        assert prepared.tokens.shape[1] == (24 if wanted else 12)
        applied += bool(wanted)
    assert 30 < applied < 70


def test_a_source_is_optional_only_where_its_condition_appends_now_and_then() -> None:
    uses = [condition("reference", p, {"reference": f"r{p}"}) for p in (0.5, 1.0)] + [condition("mask", 0.5, {"mask": "m"})]
    sources = Flexible(video=ModalityTable(True, "latents", uses)).build(setting()).sources()
    assert {role: source.optional for role, source in sources.items()} == {
        "text": False,
        "video": False,
        "video.cond0.reference": True,
        "video.cond1.reference": False,
        "video.cond2.mask": False,
    }
    assert sources["video.cond2.mask"].where == "training_strategy.video.conditions.2.mask_dir"


def test_a_sample_whose_tokens_are_all_given_in_part_has_loss_zero() -> None:
    table = ModalityTable(True, "audio_latents", [condition("mask", sources={"mask": "audio_masks"})])
    strategy = Flexible(audio=table).build(setting())
    mask = torch.stack([torch.full((5,), 0.5), torch.zeros(5)])
    prepared = strategy.prepare(batch({"audio": audio()}, {"audio.cond0.mask": mask}), draws())
    losses = strategy.loss({"audio": torch.zeros(2, 5, 128)}, prepared)["audio"]
    assert losses[0] == 0
    assert losses[1] > 0


def test_a_mode_without_a_generated_modality_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Flexible(video=ModalityTable(False, "latents")).build(setting())
    assert str(caught.value) == (
        "training_strategy: no modality is generated, so there is nothing to train\n    Set is_generated = true for video, audio or both."
    )


def test_conditions_that_make_no_sense_are_all_named_at_once() -> None:
    tables = Flexible(
        video=ModalityTable(False, "latents", [condition("mask", sources={"mask": "video_masks"})]),
        audio=ModalityTable(True, "audio_latents", [condition("first_frame")]),
    )
    with pytest.raises(ConfigError) as caught:
        tables.build(setting())
    assert str(caught.value) == (
        'training_strategy.video.conditions.0.type: the condition "mask" makes no sense on the frozen video, which is already given\n'
        "    Remove the condition, or set is_generated = true for video.\n"
        'training_strategy.audio.conditions.0.type: the condition "first_frame" does not work on audio\n'
        "    It works on video."
    )


def test_a_reference_on_a_frozen_modality_is_allowed() -> None:
    tables = Flexible(
        video=ModalityTable(False, "latents", [condition("reference", sources={"reference": "reference_latents"})]),
        audio=ModalityTable(True, "audio_latents"),
    )
    assert tables.problems() == []


def test_the_check_names_every_sample_that_a_condition_cannot_take() -> None:
    table = ModalityTable(True, "audio_latents", [condition("prefix", temporal_boundary=8)])
    entries = {"long": Entry((8, 27, 16)), "same": Entry((8, 8, 16)), "short": Entry((8, 5, 16))}
    with pytest.raises(DataError) as caught:
        Flexible(audio=table).build(setting()).check(Manifest({"audio": entries}))
    remedy = "    Set temporal_boundary below the length of the shortest sample, or leave out the short samples."
    assert str(caught.value) == (
        f"training_strategy.audio.conditions.0, sample same: a prefix of 8 latent frames leaves nothing to generate in a sample of 8 latent frames\n{remedy}\n"
        f"training_strategy.audio.conditions.0, sample short: a prefix of 8 latent frames leaves nothing to generate in a sample of 5 latent frames\n{remedy}"
    )


def test_the_check_takes_no_memory_for_long_clips() -> None:
    table = ModalityTable(True, "latents", [condition("first_frame")])
    data = Manifest({"video": {"film": Entry((128, 2_000, 34, 60), 24.0)}})
    Flexible(video=table).build(setting()).check(data)  # 2 GB in float32, were it not expanded from one number


def test_the_same_draws_give_the_same_inputs_whatever_the_batch_around_a_sample() -> None:
    strategy = Flexible(audio=ModalityTable(True, "audio_latents")).build(setting())
    both = strategy.prepare(batch({"audio": audio()}), draws())["audio"]
    alone = audio()
    one = Batch(
        ("clip1",),
        {"audio": StoredLatents(alone.latents[1:], alone.rate[1:])},
        {},
        Text({"audio": torch.ones(1, 2, 3)}, torch.ones(1, 2)),
    )
    single = strategy.prepare(one, CountedDraws(7, 0, ("clip1",), "0.9"))["audio"]
    assert torch.equal(both.tokens[1:], single.tokens)


def references(*factors: tuple[int, ...]) -> tuple[Flexible, Manifest]:
    """For each reference condition, by how much the reference of each sample is smaller than its target."""
    uses = [condition("reference", sources={"reference": f"references{index}"}) for index in range(len(factors))]
    entries = {"video": {f"clip{sample}": Entry((128, 3, 4, 4), 24.0) for sample in range(len(factors[0]))}}
    for index, own in enumerate(factors):
        entries[f"video.cond{index}.reference"] = {f"clip{s}": Entry((128, 3, 4 // f, 4 // f), 24.0) for s, f in enumerate(own)}
    return Flexible(video=ModalityTable(True, "latents", uses)), Manifest(entries)


def test_the_check_refuses_what_one_lora_cannot_say() -> None:
    tables, data = references((1, 2))
    with pytest.raises(DataError) as caught:
        tables.build(setting()).check(data)
    assert str(caught.value) == (
        "training_strategy.video.conditions.0: references have different spatial factors: 1, 2\n"
        "    Preprocess all of them with the same factor: a LoRA can record only one for each reference."
    )


def test_two_references_of_different_factors_are_recorded_one_by_one() -> None:
    tables, data = references((2, 2), (4, 4))
    strategy = tables.build(setting())
    strategy.check(data)
    (said,) = strategy.metadata(data).values()
    assert [(each["latents_dir"], each["reference_downscale_factor"]) for each in json.loads(said)] == [
        ("references0", "2"),
        ("references1", "4"),
    ]


def test_two_references_of_one_modality_are_appended_each_where_its_own_size_says() -> None:
    """Their order does not matter to the model, which attends to all tokens alike."""
    tables, _ = references((1, 1), (2, 2))
    media = {
        "video": video(height=4, width=4),
        "video.cond0.reference": video(height=4, width=4),
        "video.cond1.reference": video(height=2, width=2),
    }
    prepared = tables.build(setting()).prepare(batch(media), draws())["video"]
    assert prepared.tokens.shape[1] == 3 * (16 + 16 + 4)
    assert torch.equal(prepared.positions[:, :, 48:96], prepared.positions[:, :, :48])
    small = prepared.positions[:, :, 96:]
    assert small[:, 1:].max() == prepared.positions[:, 1:].max(), "the smaller one spans the whole picture"
    assert (small[:, 1, :, 1] - small[:, 1, :, 0]).unique().tolist() == [64.0]


# ---------------------------------------------------------------- the first-frame marker


def marking(shared_sigma: bool = False) -> Setting:
    """A model that takes the marker."""
    return attrs.evolve(setting(shared_sigma), takes_marker=True)


@pytest.mark.parametrize("is_generated", [True, False])
def test_the_targets_first_latent_frame_is_marked_and_no_reference_is(is_generated: bool) -> None:
    table = VideoTable(is_generated, "latents", [condition("reference", sources={"reference": "reference_latents"})])
    strategy = Flexible(video=table, audio=ModalityTable(True, "audio_latents")).build(marking())
    given = batch({"video": video(), "video.cond0.reference": video(frames=3), "audio": audio()})
    prepared = strategy.prepare(given, draws())
    marked = prepared["video"].marked
    assert marked is not None
    assert marked.shape == prepared["video"].tokens.shape[:2] == (2, 24)
    assert marked.tolist() == [[True] * 4 + [False] * 20] * 2
    assert prepared["audio"].marked is None


def test_a_clip_of_one_frame_is_marked_throughout() -> None:
    prepared = Flexible(video=VideoTable(True, "latents")).build(marking()).prepare(batch({"video": video(frames=1)}), draws())
    assert bool(prepared["video"].marked.all())


def test_nothing_is_marked_for_a_model_without_marker_or_where_the_run_file_says_so() -> None:
    off = VideoTable(True, "latents", mark_first_frame=False)
    for table, told in ((off, marking()), (off, setting()), (VideoTable(True, "latents"), setting())):
        assert Flexible(video=table).build(told).prepare(batch({"video": video()}), draws())["video"].marked is None


def test_the_marker_changes_nothing_else_of_what_is_trained_on() -> None:
    off, on = (
        Flexible(video=VideoTable(True, "latents", [condition("first_frame", 0.5)], mark_first_frame=said)).build(marking())
        for said in (False, True)
    )
    one, other = (strategy.prepare(batch({"video": video()}), draws())["video"] for strategy in (off, on))
    names = [field.name for field in attrs.fields(type(one)) if isinstance(getattr(one, field.name), torch.Tensor)]
    assert len(names) > 8
    assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def test_a_plain_table_of_video_is_marked_so_that_older_plugins_are() -> None:
    assert Flexible(video=ModalityTable(True, "latents")).video == VideoTable(True, "latents")


def test_the_lora_says_whether_the_first_frame_was_marked_where_the_model_takes_the_marker() -> None:
    entries = Manifest({"video": {"clip": Entry((128, 3, 2, 2), 24.0)}})
    for said, told in ((True, "true"), (False, "false")):
        tables = Flexible(video=VideoTable(True, "latents", mark_first_frame=said))
        assert tables.build(marking()).metadata(entries) == {"mark_first_frame": told}
        assert tables.build(setting()).metadata(entries) == {}
    sound = Manifest({"audio": {"clip": Entry((8, 5, 16), None)}})
    assert Flexible(audio=ModalityTable(True, "audio_latents")).build(marking()).metadata(sound) == {}
