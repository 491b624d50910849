"""LoRA files: the export contract, and every layout that is read."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.golden_models import BOTH, ask_stock, load_golden, random_input, stock_model
from helpers.lora_files import load_lora
from ltxcore.errors import CheckpointError
from ltxcore.models.adapter_types import adapter_types, endings_of
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora
from ltxcore.models.lora_file import read_lora
from ltxcore.models.lora_names import parsed

AUDIO = frozenset({"audio"})
PATTERNS = ["to_k", "to_q", "to_v", "to_out.0", "ff.net.0.proj", "audio_ff.net.2", "proj_in", "time_embed.linear"]
MODULE = "transformer_blocks.0.audio_attn1.to_k"
BASE = f"diffusion_model.{MODULE}"
KOHYA = "lora_unet_transformer_blocks_0_audio_attn1_to_k"


def shaken(backbone, seed=5):
    generator = torch.Generator().manual_seed(seed)
    for parameter in lora_parameters(backbone).values():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return backbone


def tiny(modalities=AUDIO, targets=(), rank=4, alpha=12):
    backbone = load_backbone("tiny-untrained", frozenset(modalities), dtype=torch.float32)
    if targets:
        add_lora(backbone, rank=rank, alpha=alpha, dropout=0.0, target_modules=list(targets))
    return backbone


def one_adapter():
    """A tiny backbone with a single adapter that changes something."""
    return shaken(tiny(targets=[MODULE]))


def inputs(width=(128, 128)):
    sigma = torch.tensor([0.3, 0.8])
    return random_input("video", 6, width=width[0], sigma=sigma), random_input("audio", 5, width=width[1], sigma=sigma)


def assert_near(found, expected):
    for modality, value in expected.items():
        assert (found[modality] - value).abs().max() < 1e-5


def saved(backbone, path, **options):
    save_lora(backbone, path, **({"metadata": {}, "dtype": torch.float32} | options))
    return path


def refused(call, *args, **options):
    with pytest.raises(CheckpointError) as error:
        call(*args, **options)
    return str(error.value)


# ---------------------------------------------------------------- export


def test_an_export_has_original_names_and_alpha_folded_into_b(tmp_path):
    backbone = shaken(tiny(BOTH, ["proj_in", MODULE]))
    found = load_file(saved(backbone, tmp_path / "x.safetensors"))
    assert set(found) == {f"diffusion_model.{m}.lora_{x}.weight" for m in ("patchify_proj", MODULE) for x in "AB"}
    layer = backbone.transformer.get_submodule(MODULE)
    delta = found[f"{BASE}.lora_B.weight"] @ found[f"{BASE}.lora_A.weight"]
    torch.testing.assert_close(delta, layer.get_delta_weight("default"))
    torch.testing.assert_close(found[f"{BASE}.lora_B.weight"], 3 * layer.lora_B["default"].weight)


def test_an_export_says_what_it_is(tmp_path):
    path = saved(shaken(tiny(targets=["audio_attn1.to_k", "audio_ff.net.2"])), tmp_path / "x.safetensors", metadata={"trigger": "ltxworld"})
    with safe_open(path, "pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "trigger": "ltxworld",
            "base_model": "tiny-untrained",
            "base_fingerprint": "tiny-untrained",
            "generation": "tiny",
            "rank": "4",
            "alpha": "12",
            "alpha_is_folded": "true",
            "target_modules": '["audio_attn1.to_k", "audio_ff.net.2"]',
            "timestep_rule": "split",
        }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_an_export_has_the_dtype_that_is_asked_for(tmp_path, dtype):
    assert {t.dtype for t in load_file(saved(one_adapter(), tmp_path / "x.safetensors", dtype=dtype)).values()} == {dtype}


def test_an_adapter_that_changes_nothing_is_not_exported_and_no_file_is_left(tmp_path):
    path = tmp_path / "x.safetensors"
    assert refused(saved, tiny(targets=["audio_attn1.to_k"]), path) == "\n".join(
        f"{path}: the adapter of transformer_blocks.{i}.audio_attn1.to_k has no effect: its change of the weights is zero" for i in range(4)
    )
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_whose_a_and_b_miss_each_other_changes_nothing(tmp_path):
    backbone = one_adapter()
    layer = backbone.transformer.get_submodule(MODULE)
    with torch.no_grad():
        layer.lora_A["default"].weight[:2] = 0
        layer.lora_B["default"].weight[:, 2:] = 0
    assert "has no effect" in refused(saved, backbone, tmp_path / "x.safetensors")


def test_values_that_are_not_finite_are_not_exported(tmp_path):
    backbone, path = one_adapter(), tmp_path / "x.safetensors"
    backbone.transformer.get_submodule(MODULE).lora_A["default"].weight.data[0, 0] = float("nan")
    assert refused(saved, backbone, path) == f"{path}: the adapter of {MODULE} has values that are not finite"
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_one_before_it(tmp_path):
    path = saved(one_adapter(), tmp_path / "x.safetensors")
    before = path.read_bytes()
    refused(saved, tiny(targets=[MODULE]), path)
    assert path.read_bytes() == before


def test_an_export_that_does_not_fit_the_base_is_refused(tmp_path):
    import attrs

    backbone, path = one_adapter(), tmp_path / "x.safetensors"
    shapes = dict(backbone.blueprint.shapes)
    backbone.blueprint = attrs.evolve(backbone.blueprint, shapes=shapes | {f"{MODULE}.weight": (64, 128)})
    assert refused(saved, backbone, path) == f"{path}: {MODULE} is [128, 128] in the LoRA; in the base model: [64, 128]"
    del shapes[f"{MODULE}.weight"]
    backbone.blueprint = attrs.evolve(backbone.blueprint, shapes=shapes)
    assert refused(saved, backbone, path) == f"{path}: {MODULE} is [128, 128] in the LoRA; in the base model: no such module"
    assert list(tmp_path.iterdir()) == []


def test_a_backbone_without_adapters_has_nothing_to_export(tmp_path):
    path = tmp_path / "x.safetensors"
    assert refused(saved, tiny(), path) == f"{path}: there is no LoRA to save: the backbone has no adapters"


def test_metadata_that_contradicts_the_adapters_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    assert refused(saved, one_adapter(), path, metadata={"rank": "8", "alpha": "12"}) == (
        f"{path}: metadata that the LoRA determines was given with different values: rank"
    )


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_an_export_is_read_by_diffusers_and_by_us_and_says_the_same(name, tmp_path):
    from diffusers.loaders.lora_pipeline import LTX2LoraLoaderMixin

    width = (48, 48) if name == "A" else (64, 32)
    video, audio = inputs(width)
    backbone = load_golden(name, tmp_path)
    backbone.transformer.rule = "cross"
    base = backbone(video, audio)
    add_lora(backbone, rank=4, alpha=12, dropout=0.0, target_modules=PATTERNS)
    expected = shaken(backbone)(video, audio)
    assert (expected["video"] - base["video"]).abs().max() > 0.1
    path = saved(backbone, tmp_path / "x.safetensors")

    again = load_golden(name, tmp_path)
    again.transformer.rule = "cross"
    load_lora(again, path)
    assert_near(again(video, audio), expected)

    stock = stock_model(name)
    state, metadata = LTX2LoraLoaderMixin.lora_state_dict(path, return_lora_metadata=True)
    LTX2LoraLoaderMixin.load_lora_into_transformer(state, transformer=stock, metadata=metadata)
    assert_near(ask_stock(stock, video, audio, use_cross_timestep=True), expected)


def test_an_export_is_read_into_adapters_of_another_alpha(tmp_path):
    trained = shaken(tiny(targets=["to_k"]))
    path = saved(trained, tmp_path / "x.safetensors")
    other = tiny(targets=["to_k"], alpha=1)
    load_lora(other, path)
    audio = inputs()[1]
    assert_near(other(None, audio), trained(None, audio))


def test_a_loaded_lora_can_be_saved_again(tmp_path):
    path = saved(shaken(tiny(targets=["to_k"])), tmp_path / "x.safetensors")
    backbone = tiny()
    load_lora(backbone, path)
    first, second = load_file(path), load_file(saved(backbone, tmp_path / "y.safetensors"))
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value)


# ---------------------------------------------------------------- layouts


def pair(rank=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rank, 128, generator=generator), torch.randn(128, rank, generator=generator)


def delta_of(path):
    backbone = tiny()
    load_lora(backbone, path)
    return backbone.transformer.get_submodule(MODULE).get_delta_weight("default")


def written(path, tensors, metadata=None):
    save_file({name: value.clone() for name, value in tensors.items()}, path, metadata=metadata)
    return path


@pytest.mark.parametrize(
    ("names", "alpha", "factor"),
    [
        ((f"{BASE}.lora_A.weight", f"{BASE}.lora_B.weight"), None, 1.0),
        ((f"{BASE}.lora_A.weight", f"{BASE}.lora_B.weight"), f"{BASE}.alpha", 0.5),
        ((f"{BASE}.lora_down.weight", f"{BASE}.lora_up.weight"), f"{BASE}.alpha", 0.5),
        ((f"model.{BASE}.lora_A.weight", f"model.{BASE}.lora_B.weight"), None, 1.0),
        ((f"transformer.{MODULE}.lora_A.weight", f"transformer.{MODULE}.lora_B.weight"), None, 1.0),
        ((f"transformer.{MODULE}.lora.down.weight", f"transformer.{MODULE}.lora.up.weight"), None, 1.0),
        ((f"base_model.model.{MODULE}.lora_A.weight", f"base_model.model.{MODULE}.lora_B.weight"), None, 1.0),
        ((f"{KOHYA}.lora_down.weight", f"{KOHYA}.lora_up.weight"), f"{KOHYA}.alpha", 0.5),
    ],
)
def test_every_layout_is_read(names, alpha, factor, tmp_path):
    a, b = pair()
    tensors = {names[0]: a, names[1]: b}
    if alpha:
        tensors[alpha] = torch.tensor(2.0)
    torch.testing.assert_close(delta_of(written(tmp_path / "x.safetensors", tensors)), factor * b @ a)


def test_every_name_that_the_page_on_model_files_lists_is_read():
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "model-files.md").read_text()
    section = page.partition("### Layouts that are read")[2].partition("\n#")[0]
    table = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    prefixes, endings = (re.findall(r"`([^`]+)`", part) for part in table.split("| ending |"))
    known = endings_of(adapter_types())
    roles = {parsed(f"{prefix.removesuffix('transformer_blocks.')}{MODULE}{ending}", known) for prefix in prefixes for ending in endings}
    assert roles == {(MODULE, name) for name in known.values()}


def test_modules_may_have_ranks_and_alphas_of_their_own(tmp_path):
    other = "transformer_blocks.1.audio_ff.net.2"
    (a, b), (wide, tall) = pair(), pair(2)
    wide = torch.randn(2, 512, generator=torch.Generator().manual_seed(1))
    tensors = {f"{BASE}.lora_A.weight": a, f"{BASE}.lora_B.weight": b, f"{BASE}.alpha": torch.tensor(8.0)}
    tensors |= {f"diffusion_model.{other}.lora_A.weight": wide, f"diffusion_model.{other}.lora_B.weight": tall}
    backbone = tiny()
    load_lora(backbone, written(tmp_path / "x.safetensors", tensors))
    torch.testing.assert_close(backbone.transformer.get_submodule(MODULE).get_delta_weight("default"), 2 * b @ a)
    torch.testing.assert_close(backbone.transformer.get_submodule(other).get_delta_weight("default"), tall @ wide)


def test_a_file_that_diffusers_wrote_is_read_with_its_alpha(tmp_path):
    from diffusers.loaders.lora_pipeline import LTX2LoraLoaderMixin

    a, b = pair()
    layers = {f"{MODULE}.lora_A.weight": a, f"{MODULE}.lora_B.weight": b}
    LTX2LoraLoaderMixin.save_lora_weights(
        tmp_path, transformer_lora_layers=layers, transformer_lora_adapter_metadata={"r": 4, "lora_alpha": 10}, weight_name="x.safetensors"
    )
    torch.testing.assert_close(delta_of(tmp_path / "x.safetensors"), 2.5 * b @ a)


def in_peft(path, **settings):
    """A LoRA of peft's as diffusers saves it, with settings by patterns: what peft adds to the matrix of each module."""
    from diffusers.loaders.lora_pipeline import LTX2LoraLoaderMixin
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

    holder = tiny().transformer
    config = LoraConfig(r=4, lora_alpha=10, target_modules=["to_k", "to_q", "net.2"], init_lora_weights=False, **settings)
    inject_adapter_in_model(config, holder)
    layers = get_peft_model_state_dict(holder, adapter_name="default")
    LTX2LoraLoaderMixin.save_lora_weights(
        path.parent, transformer_lora_layers=layers, transformer_lora_adapter_metadata=config.to_dict(), weight_name=path.name
    )
    with torch.no_grad():
        return {
            name: (layer.scaling["default"], layer.get_delta_weight("default"))
            for name, layer in holder.named_modules()
            if hasattr(layer, "scaling")
        }


@pytest.mark.filterwarnings("ignore:The following alpha_pattern keys did not match:RuntimeWarning")
@pytest.mark.parametrize("root", [False, True])
def test_the_alphas_and_ranks_of_single_modules_are_those_of_peft(root, tmp_path):
    theirs = in_peft(
        tmp_path / "x.safetensors",
        use_rslora=root,
        rank_pattern={"^transformer_blocks.1.audio_attn1.to_q": 7, "net.2": 2},
        alpha_pattern={
            "^transformer_blocks.1.audio_attn1.to_q": 3,
            "k": 1,  # not what follows a dot
            "to_k": 8,
            r"transformer_blocks\.0\..*to_k": 5,  # later than the one above
            r"^audio_attn2\.to_q": 6,  # not the whole path
            r".*2\.audio_attn[12]\.to_q": 20,
            "audio_ff.net.2": 3,
        },
    )
    found = read_lora(tmp_path / "x.safetensors", "x").modules
    assert found.keys() == theirs.keys()
    assert len({scale for scale, _ in theirs.values()}) == 5
    for name, tensors in found.items():
        torch.testing.assert_close(tensors["lora_B"] @ tensors["lora_A"], theirs[name][1])


def test_a_file_of_diffusers_that_is_no_plain_lora_is_refused(tmp_path):
    a, b = pair()
    said = {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 4, "transformer.use_dora": True})}
    path = written(tmp_path / "x.safetensors", {f"transformer.{MODULE}.lora_A.weight": a, f"transformer.{MODULE}.lora_B.weight": b}, said)
    assert refused(load_lora, tiny(), path) == f"{path}: the file is marked as a DoRA but has no magnitudes\n    Export it again."


# ---------------------------------------------------------------- what is refused


def test_names_that_are_not_known_and_pairs_that_are_not_whole_are_all_named(tmp_path):
    a, b = pair()
    other = "diffusion_model.transformer_blocks.1.audio_attn1.to_k"
    tensors = {
        f"{BASE}.lora_A.weight": a,
        f"{other}.lora_A.weight": a,
        f"{other}.lora_B.weight": b[:, :2].contiguous(),
        "lora_te_x.weight": b,
    }
    path = written(tmp_path / "x.safetensors", tensors)
    assert refused(load_lora, tiny(), path) == (
        f"{path}: 1 tensor is not part of a LoRA of this model: lora_te_x.weight\n"
        f"{path}: lora tensors are missing, or do not fit each other, in these modules: {MODULE}, transformer_blocks.1.audio_attn1.to_k"
    )


def test_modules_that_the_base_does_not_have_are_named(tmp_path):
    a, b = pair()
    tensors = {}
    for module in ("transformer_blocks.9.audio_attn1.to_k", "transformer_blocks.0.audio_ff.net.2"):
        tensors |= {f"diffusion_model.{module}.lora_A.weight": a, f"diffusion_model.{module}.lora_B.weight": b}
    path = written(tmp_path / "x.safetensors", tensors)
    assert refused(load_lora, tiny(), path) == (
        f"{path}: 2 modules do not fit the base, which is of generation tiny: transformer_blocks.0.audio_ff.net.2 [128, 128] for [128, 512], "
        "transformer_blocks.9.audio_attn1.to_k [128, 128] for no such module\n    Use the base model that the LoRA was trained on."
    )


def test_modules_of_a_modality_that_the_run_does_not_have_are_named(tmp_path):
    path = saved(shaken(tiny(BOTH, ["attn1.to_k", "audio_attn1.to_k"])), tmp_path / "x.safetensors")
    assert refused(load_lora, tiny(), path) == (
        f"{path}: 4 modules belong to a modality that this run does not have (it has audio): transformer_blocks.0.attn1.to_k, "
        "transformer_blocks.1.attn1.to_k, transformer_blocks.2.attn1.to_k, transformer_blocks.3.attn1.to_k\n"
        "    Load the modalities that the LoRA was trained on."
    )


def test_a_file_that_does_not_fit_the_adapters_is_refused(tmp_path):
    path = saved(shaken(tiny(targets=["transformer_blocks.0.audio_attn1.to_k", "transformer_blocks.0.audio_attn1.to_q"])), tmp_path / "x")
    backbone = tiny(targets=["transformer_blocks.0.audio_attn1.to_k", "transformer_blocks.0.audio_attn1.to_v"], rank=2)
    before = {name: value.clone() for name, value in lora_parameters(backbone).items()}
    assert refused(load_lora, backbone, path) == (
        f"{path}: 1 adapted module is missing from this file: transformer_blocks.0.audio_attn1.to_v\n    Set lora.target_modules to the modules in the file.\n"
        f"{path}: 1 module in this file is not adapted in this run: transformer_blocks.0.audio_attn1.to_q\n    Set lora.target_modules to the modules in the file.\n"
        f"{path}: 1 module has a greater rank: transformer_blocks.0.audio_attn1.to_k has rank 4, but 2 here\n    Set lora.rank = 4."
    )
    assert all(torch.equal(value, before[name]) for name, value in lora_parameters(backbone).items())


def test_a_lora_of_another_generation_is_refused(tmp_path):
    path = saved(one_adapter(), tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError) as error:
        load_lora(load_golden("B", tmp_path), path)
    assert str(error.value) == (
        f"{path}: the LoRA was made for a model of generation tiny, but the base is of generation 2.3\n"
        "    Use the base model that the LoRA was trained on."
    )


def test_a_truncated_or_empty_file_is_refused(tmp_path):
    path = saved(one_adapter(), tmp_path / "x.safetensors")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-9])
    assert (
        refused(load_lora, tiny(), path)
        == f"{path}: is truncated: only {size - 9} of {size} bytes are there\n    Download or copy the file again."
    )
    empty = written(tmp_path / "y.safetensors", {})
    assert refused(load_lora, tiny(), empty) == f"{empty}: this file holds no tensors"


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("{", "the metadata under lora_adapter_metadata is not a JSON object"),
        ("[1]", "the metadata under lora_adapter_metadata is not a JSON object"),
        ("[" * 100_000, "the metadata under lora_adapter_metadata is not a JSON object"),
        ('{"transformer.alpha_pattern": [1]}', "the alpha_pattern in the metadata is not a JSON object"),
        ('{"transformer.alpha_pattern": {"to_k": "much"}}', "the metadata says lora_alpha = much, which is not a valid scale"),
        (
            '{"transformer.alpha_pattern": {"to_[9-0]": 1}}',
            "the alpha_pattern in the metadata has an invalid key, to_[9-0]: bad character range 9-0",
        ),
        ('{"transformer.lora_alpha": "much"}', "the metadata says lora_alpha = much, which is not a valid scale"),
        (f'{{"transformer.lora_alpha": {10**400}}}', f"the metadata says lora_alpha = 1{'0' * 29}, which is not a valid scale"),
    ],
    ids=["torn", "list", "deep", "pattern", "text of a module", "range", "text", "large"],
)
def test_metadata_of_diffusers_that_cannot_be_read_are_refused_in_words(said, what, tmp_path):
    a, b = pair()
    tensors = {f"transformer.{MODULE}.lora_A.weight": a, f"transformer.{MODULE}.lora_B.weight": b}
    path = written(tmp_path / "x.safetensors", tensors, {"lora_adapter_metadata": said})
    assert refused(load_lora, tiny(), path) == f"{path}: {what}\n    Download or copy the file again."


@pytest.mark.parametrize("key", ["(a+)+", ".*.*.*x", "a{9}", "(to_k|to_q)", ""])
def test_a_pattern_that_could_take_forever_is_refused(key, tmp_path):
    a, b = pair()
    said = {"lora_adapter_metadata": json.dumps({"transformer.alpha_pattern": {key: 1}})}
    path = written(tmp_path / "x.safetensors", {f"transformer.{MODULE}.lora_A.weight": a, f"transformer.{MODULE}.lora_B.weight": b}, said)
    assert refused(load_lora, tiny(), path) == (
        f"{path}: the alpha_pattern in the metadata has a key that is too complex: {key}\n"
        "    Export the adapters as a plain LoRA, or name the modules by their paths."
    )


@pytest.mark.parametrize("alpha", [torch.ones(2), torch.ones(0)], ids=["two", "none"])
def test_an_alpha_that_is_not_one_number_does_not_fit(alpha, tmp_path):
    a, b = pair()
    tensors = {f"{BASE}.lora_down.weight": a, f"{BASE}.lora_up.weight": b, f"{BASE}.alpha": alpha}
    said = refused(load_lora, tiny(), written(tmp_path / "x.safetensors", tensors))
    assert "lora tensors are missing, or do not fit each other, in these modules:" in said


def test_pairs_of_rank_0_do_not_fit(tmp_path):
    a, b = pair()
    tensors = {f"{BASE}.lora_A.weight": a[:0], f"{BASE}.lora_B.weight": b[:, :0], f"{BASE}.alpha": torch.tensor(1.0)}
    said = refused(load_lora, tiny(), written(tmp_path / "x.safetensors", tensors))
    assert "lora tensors are missing, or do not fit each other, in these modules:" in said
