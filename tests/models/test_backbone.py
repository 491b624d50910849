"""The forward: golden numbers, diffusers' own forward as an oracle, and what may be left out."""

import attrs
import pytest
import torch

from helpers.golden_io import load_case
from helpers.golden_models import BOTH, ask_stock, golden_inputs, golden_weights, load_golden, random_input, stock_model, write_golden
from ltxcore.errors import ConfigError
from ltxcore.models.backbone import ModelInfo, Perturbation
from ltxcore.models.load_base import load_backbone
from ltxcore.models.transformer import attention_bias
from ltxcore.protocols import Text

PLAIN = [
    f"{model}.{case}"
    for model in "ABC"
    for case in ("joint.mask", "video_only.mask", "audio_only.mask")
    if (model, case) != ("C", "audio_only.mask")
]
SHARE = 0.134
"""How much of the recorded velocity of model C the marker makes, over all tokens."""
WIDTHS = {"A": (48, 48), "B": (64, 32), "C": (64, 32)}


def assert_golden(found, case_id):
    case = load_case("06_model", case_id)
    expected = {name: value for name, value in case.outputs.items() if name in ("video", "audio")}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=case.tolerance["rtol"], atol=case.tolerance["atol"])


def assert_same(found, expected):
    """Equal to one part in a million of the largest value."""
    for modality, value in expected.items():
        assert (found[modality] - value).abs().max() <= 1e-6 * value.abs().max()


def tiny(modalities=BOTH, **options):
    return load_backbone("tiny-untrained", frozenset(modalities), dtype=torch.float32, **options)


def both_inputs(name="B", *, shared=True):
    sigma = torch.tensor([0.3, 0.8]) if shared else None
    video, audio = WIDTHS.get(name, (128, 128))
    return random_input("video", 12, seed=1, width=video, sigma=sigma), random_input("audio", 7, seed=2, width=audio, sigma=sigma)


def with_given_tokens(given):
    """The first three tokens given: at noise level 0."""
    timesteps = given.timesteps.clone()
    timesteps[:, :3] = 0
    return attrs.evolve(given, timesteps=timesteps)


@pytest.mark.parametrize("case_id", [*PLAIN, "B.joint.frozen_audio"])
@pytest.mark.parametrize("by_token", [False, True])
def test_a_forward_agrees_with_the_golden_one(by_token, case_id, tmp_path):
    given = golden_inputs(case_id)
    if not by_token:
        given = {name: each.to("cpu") for name, each in given.items()}
        assert all(each.shared is not None for each in given.values())
    backbone = load_golden(case_id[0], tmp_path, given)
    assert_golden(backbone(given.get("video"), given.get("audio")), case_id)


def test_a_self_attention_mask_counts_by_its_logarithm(tmp_path):
    case_id = "B.joint.self_attention_mask"
    given = golden_inputs(case_id)
    masks = {"video": load_case("06_model", case_id).inputs["video.attention_mask"]}
    assert_golden(load_golden("B", tmp_path)(given["video"], given["audio"], attention_masks=masks), case_id)


def test_self_attention_that_passes_its_values_through_agrees_with_the_golden_one(tmp_path):
    given = golden_inputs("B.joint.stg_video_block1")
    perturbation = Perturbation(pass_self_attention={"video": frozenset({1})})
    assert_golden(load_golden("B", tmp_path)(given["video"], given["audio"], perturbation=perturbation), "B.joint.stg_video_block1")


def test_isolated_modalities_agree_with_the_golden_ones(tmp_path):
    given = golden_inputs("B.joint.modality_isolated")
    found = load_golden("B", tmp_path)(given["video"], given["audio"], perturbation=Perturbation.isolated())
    assert_golden(found, "B.joint.modality_isolated")


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_the_forward_is_that_of_diffusers_where_both_streams_share_a_sigma_and_no_token_is_given(name, tmp_path):
    video, audio = both_inputs(name)
    found, stock = load_golden(name, tmp_path)(video, audio), stock_model(name)
    assert_same(found, ask_stock(stock, video, audio))
    assert_same(found, ask_stock(stock, video, audio, use_cross_timestep=True))


@pytest.mark.parametrize(("rule", "use_cross_timestep"), [("cross", True), ("own", False)])
@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_the_other_timestep_rules_are_those_of_diffusers(name, rule, use_cross_timestep, tmp_path):
    video, audio = both_inputs(name, shared=False)
    video, audio = with_given_tokens(video), with_given_tokens(audio)
    backbone = load_golden(name, tmp_path)
    backbone.transformer.rule = rule
    assert_same(backbone(video, audio), ask_stock(stock_model(name), video, audio, use_cross_timestep=use_cross_timestep))


def test_the_rules_differ_where_tokens_are_given(tmp_path):
    video, audio = (with_given_tokens(x) for x in both_inputs(shared=False))
    path, found = str(write_golden("B", tmp_path)), {}
    for rule in ("split", "cross", "own"):
        backbone = load_backbone(path, BOTH, dtype=torch.float32, rule=rule)
        assert backbone.timestep_rule == rule
        found[rule] = backbone(video, audio)["video"]
    assert (found["split"] - found["cross"]).abs().max() > 1e-3
    assert (found["split"] - found["own"]).abs().max() > 1e-3


def test_isolation_and_passing_values_through_are_those_of_diffusers(tmp_path):
    video, audio = both_inputs()
    backbone, stock = load_golden("B", tmp_path), stock_model("B")
    cases = [
        (Perturbation.isolated(), {"isolate_modalities": True}),
        (Perturbation({"video": frozenset({0}), "audio": frozenset({0})}), {"spatio_temporal_guidance_blocks": [0]}),
    ]
    for perturbation, options in cases:
        assert_same(backbone(video, audio, perturbation=perturbation), ask_stock(stock, video, audio, **options))


def test_the_mark_of_key_frames_is_that_of_diffusers_and_reaches_only_models_that_have_one(tmp_path):
    video, audio = both_inputs("C")
    told = attrs.evolve(video, marked=(torch.arange(12) < 4).expand(2, -1))
    backbone, stock = load_golden("C", tmp_path), stock_model("C")
    plain, found = backbone(video, audio)["video"], backbone(told, audio)["video"]
    assert_same({"video": found}, {"video": ask_stock(stock, video, audio, video_keyframes_mask=told.marked[..., None].float())["video"]})
    assert (found - plain).abs().max() > 1e-4
    other = load_golden("B", tmp_path)
    assert torch.equal(other(told, audio)["video"], other(video, audio)["video"])


@pytest.mark.parametrize("name", ["A", "B", "C", "tiny"])
def test_one_modality_alone_is_the_isolated_joint_forward_whether_or_not_the_other_has_weights(name, tmp_path):
    def load(modalities):
        return tiny(modalities) if name == "tiny" else load_golden(name, tmp_path, modalities)

    video, audio = both_inputs(name, shared=False)
    joint = load(BOTH)
    isolated = joint(video, audio, perturbation=Perturbation.isolated())
    for modality, given in (("video", (video, None)), ("audio", (None, audio))):
        torch.testing.assert_close(joint(*given)[modality], isolated[modality], rtol=0, atol=1e-6)
        torch.testing.assert_close(load({modality})(*given)[modality], isolated[modality], rtol=0, atol=1e-6)


def test_each_direction_of_attention_between_the_modalities_is_switched_off_alone():
    video, audio = both_inputs("tiny")
    backbone = tiny()
    backbone.transformer.transformer_blocks = backbone.transformer.transformer_blocks[:1]
    whole, isolated = backbone(video, audio), backbone(video, audio, perturbation=Perturbation.isolated())
    deaf = backbone(video, audio, perturbation=Perturbation(audio_to_video=False))
    torch.testing.assert_close(deaf["video"], isolated["video"], rtol=0, atol=1e-6)
    torch.testing.assert_close(deaf["audio"], whole["audio"], rtol=0, atol=1e-6)
    blind = backbone(video, audio, perturbation=Perturbation(video_to_audio=False))
    torch.testing.assert_close(blind["audio"], isolated["audio"], rtol=0, atol=1e-6)
    torch.testing.assert_close(blind["video"], whole["video"], rtol=0, atol=1e-6)


def test_values_are_passed_through_in_one_stream_and_not_in_the_other():
    video, audio = both_inputs("tiny")
    backbone = tiny()
    found = backbone(video, audio, perturbation=Perturbation({"audio": frozenset({3})}))
    whole = backbone(video, audio)
    assert (found["audio"] - whole["audio"]).abs().max() > 1e-3
    same = backbone(video, None, perturbation=Perturbation({"audio": frozenset({3})}))["video"]
    assert torch.equal(same, backbone(video, None)["video"])


def test_words_that_the_mask_leaves_out_do_not_count():
    audio = random_input("audio", 7)
    changed = attrs.evolve(audio, context=audio.context.clone())
    changed.context[1, :6] = 9.0
    backbone = tiny({"audio"})
    assert torch.equal(backbone(None, audio)["audio"], backbone(None, changed)["audio"])
    unmasked = attrs.evolve(audio, context_mask=None)
    ones = attrs.evolve(audio, context_mask=torch.ones(2, 16))
    torch.testing.assert_close(backbone(None, unmasked)["audio"], backbone(None, ones)["audio"], rtol=0, atol=1e-6)


def test_text_without_a_single_word_gives_numbers():
    audio = attrs.evolve(random_input("audio", 7), context_mask=torch.zeros(2, 16))
    assert tiny({"audio"})(None, audio)["audio"].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_is_the_logarithm_of_a_weight_and_finite_at_zero(dtype):
    found = attention_bias(torch.tensor([1.0, 0.5, 0.0]), dtype)
    assert found.dtype == dtype
    torch.testing.assert_close(found, torch.tensor([0.0, -0.6931472, torch.finfo(dtype).min]).to(dtype))


def test_positions_move_the_answer_and_order_of_tokens_does_not():
    video = random_input("video", 12)
    backbone = tiny({"video"})
    out = backbone(video, None)["video"]
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = attrs.evolve(
        video, tokens=video.tokens[:, order], timesteps=video.timesteps[:, order], positions=video.positions[:, :, order]
    )
    torch.testing.assert_close(backbone(shuffled, None)["video"], out[:, order], rtol=0, atol=2e-6)
    moved = attrs.evolve(video, positions=video.positions * torch.tensor([2.0, 1.0, 1.0]).view(1, 3, 1, 1))
    assert (backbone(moved, None)["video"] - out).abs().max() > 1e-3


@pytest.mark.parametrize("streams", [("video", "audio"), ("video",), ("audio",)])
def test_blocks_computed_again_in_the_backward_pass_give_the_same_gradients(streams):
    given = {"video": random_input("video", 12), "audio": random_input("audio", 7)}

    def gradients(checkpointed):
        backbone = tiny(streams, gradient_checkpointing=checkpointed)
        out = backbone(*(given[m] if m in streams else None for m in ("video", "audio")))
        sum(v.square().mean() for v in out.values()).backward()
        return {name: p.grad for name, p in backbone.named_parameters()}

    plain, again = gradients(False), gradients(True)
    assert all(grad is not None for grad in plain.values())
    for name, grad in plain.items():
        torch.testing.assert_close(again[name], grad, rtol=0, atol=1e-7)


def test_blocks_are_computed_again_only_where_gradients_are_wanted(monkeypatch):
    import ltxcore.models.transformer as module

    calls = []
    real = module.checkpoint
    monkeypatch.setattr(module, "checkpoint", lambda *a, **k: (calls.append(k["use_reentrant"]), real(*a, **k))[1])
    backbone, audio = tiny({"audio"}, gradient_checkpointing=True), random_input("audio", 7)
    with torch.no_grad():
        backbone(None, audio)
    assert calls == []
    backbone(None, audio)
    assert calls == [False] * 4


def capture_levels(backbone):
    """What reaches the embedding of noise levels and the rotary angles."""
    seen = {}
    transformer = backbone.transformer
    transformer.audio_time_embed.register_forward_pre_hook(lambda _, args: seen.setdefault("timesteps", args[0]))
    transformer.audio_rope.register_forward_pre_hook(lambda _, args: seen.setdefault("positions", args[0]))
    return seen


@pytest.mark.parametrize("autocast", [False, True])
def test_noise_levels_and_positions_stay_float32_under_bf16(autocast):
    audio = random_input("audio", 7).to("cpu")
    backbone = load_backbone("tiny-untrained", frozenset({"audio"}), dtype=torch.float32 if autocast else torch.bfloat16)
    seen = capture_levels(backbone)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = backbone(None, audio)["audio"]
    assert torch.equal(seen["timesteps"], audio.sigma * 1000)
    assert torch.equal(seen["positions"], audio.positions)
    assert out.dtype == torch.float32
    expected = tiny({"audio"})(None, audio)["audio"]
    assert (out - expected).square().mean().sqrt() < 0.02 * expected.square().mean().sqrt()


@pytest.mark.parametrize("autocast", [False, True])
def test_masks_work_under_bf16(autocast):
    video, audio = both_inputs("tiny")
    backbone = load_backbone("tiny-untrained", BOTH, dtype=torch.float32 if autocast else torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = backbone(video, audio, attention_masks={"video": torch.full((2, 12, 12), 0.5), "audio": torch.ones(2, 7, 7)})
    expected = tiny()(video, audio)
    for modality, value in expected.items():
        assert (out[modality] - value).square().mean().sqrt() < 0.03 * value.square().mean().sqrt()


def test_a_modality_without_weights_is_refused():
    backbone = tiny({"audio"})
    with pytest.raises(ConfigError) as error:
        backbone(random_input("video", 4), None)
    assert str(error.value) == (
        "the model is asked for video, but was loaded for audio\n    Load the backbone with the modalities that the run needs."
    )
    with pytest.raises(ConfigError) as error:
        backbone(None, None)
    assert str(error.value) == (
        "the model is asked for neither video nor audio, but was loaded for audio\n    Load the backbone with the modalities that the run needs."
    )


def test_the_tiny_model_takes_text_as_it_is():
    text = Text({"audio": torch.ones(1, 4, 128)}, torch.ones(1, 4))
    assert tiny({"audio"}).connect(text) is text


def test_connectors_are_used_where_there_are_some_and_missed_where_there_should_be():
    backbone, text = tiny({"audio"}), Text({"audio": torch.ones(1, 4, 128)}, torch.ones(1, 4))
    backbone.connectors = lambda text, modalities: attrs.evolve(text, mask=text.mask * 2)
    assert torch.equal(backbone.connect(text).mask, torch.full((1, 4), 2.0))
    backbone.connectors = None
    backbone.info = ModelInfo("big.safetensors", "2.3", "f", 48, has_connectors=True)
    with pytest.raises(ConfigError) as error:
        backbone.connect(text)
    assert str(error.value) == (
        'the base model "big.safetensors" passes text through connectors, which this backbone does not have\n'
        "    Load the backbone with `load_backbone`, which reads the connectors."
    )


def test_blocks_take_and_give_tensors_and_tuples_only():
    seen = []

    def note(_, args, output):
        seen.extend([args, output])

    backbone = tiny()
    backbone.transformer.register_forward_hook(note)
    backbone.transformer.transformer_blocks[0].register_forward_hook(note)
    backbone(*both_inputs("tiny"), perturbation=Perturbation.isolated())

    def leaves(value):
        return [leaf for item in value for leaf in leaves(item)] if isinstance(value, tuple) else [value]

    assert {type(leaf) for value in seen for leaf in leaves(value)} == {torch.Tensor, bool, type(None)}


def test_every_parameter_is_held_by_a_module_whose_own_forward_uses_it():
    backbone = tiny()
    called = set()
    for module in backbone.modules():
        module.register_forward_pre_hook(lambda module, _: called.add(id(module)))
    backbone(*both_inputs("tiny"))
    holders = {name: id(m) in called for name, m in backbone.named_modules() if list(m.parameters(recurse=False))}
    assert all(holders.values()), [name for name, was in holders.items() if not was]


def test_the_mark_is_added_where_tokens_enter_so_that_tokens_moved_by_as_much_are_predicted_alike(tmp_path):
    """By injection: the way in is wider than the stream, so there are tokens that enter as the marked ones do."""
    given, backbone = golden_inputs("C.joint.mask"), load_golden("C", tmp_path)
    weights = golden_weights("C")
    marked = given["video"].positions[:, 0, :, 0] == 0
    assert marked.sum(dim=1).tolist() == [12, 12], "half of the recorded tokens are of the first latent frame"
    told = attrs.evolve(given["video"], marked=marked)
    shift = torch.linalg.pinv(weights["patchify_proj.weight"].double()) @ weights["keyframes_abs_pos_embedding"].double()[0]
    moved = attrs.evolve(given["video"], tokens=(given["video"].tokens.double() + marked.unsqueeze(-1) * shift).float())
    found, injected = backbone(told, given["audio"]), backbone(moved, given["audio"])
    assert_same(found, injected)
    recorded = load_case("06_model", "C.joint.mask").outputs["video"]
    share = (found["video"].detach() - recorded).norm() / recorded.norm()
    assert float(share) == pytest.approx(SHARE, abs=0.005)


@pytest.mark.parametrize("name", ["A", "B"])
def test_models_without_a_mark_take_no_notice_to_the_last_bit(name, tmp_path):
    given, backbone = golden_inputs(f"{name}.joint.mask"), load_golden(name, tmp_path)
    told = attrs.evolve(given["video"], marked=torch.ones(given["video"].tokens.shape[:2], dtype=torch.bool))
    one, other = backbone(given["video"], given["audio"]), backbone(told, given["audio"])
    assert all(torch.equal(one[modality], other[modality]) for modality in one)
    assert not backbone.info.takes_marker
