import json

import pytest
import torch
from safetensors.torch import load_file

from helpers.eight_bits import in_eight_bits
from helpers.golden_connectors import SETTINGS, connector_tensors
from helpers.golden_models import BOTH, PREFIX, golden_inputs, golden_weights, random_input, write_golden
from ltxcore.errors import CheckpointError
from ltxcore.models.load_base import describe, load_backbone
from ltxcore.models.lora import add_lora
from ltxcore.models.save import save_full
from ltxcore.safetensors_files import read_header

EXTRA = {"vae.encoder.conv_in.weight": torch.arange(4, dtype=torch.float32), **connector_tensors()}


def load(path, modalities=BOTH, **options):
    return load_backbone(str(path), frozenset(modalities), dtype=torch.float32, **options)


def trained(backbone):
    with torch.no_grad():
        for p in backbone.parameters():
            p.mul_(1.25)
    return backbone


def test_a_saved_model_loads_again_and_says_the_same(tmp_path):
    backbone = trained(load(write_golden("B", tmp_path)))
    path = tmp_path / "out" / "saved.safetensors"
    save_full(backbone, path, base=str(tmp_path / "B.safetensors"), dtype=torch.float32, metadata={"step": "7"})
    given = golden_inputs("B.joint.mask")
    expected, found = backbone(given["video"], given["audio"]), load(path)(given["video"], given["audio"])
    assert all(torch.equal(found[m], expected[m]) for m in BOTH)
    header = read_header(path)
    assert header.metadata["step"] == "7"
    assert header.metadata["config"] == read_header(tmp_path / "B.safetensors").metadata["config"]
    assert [p.name for p in path.parent.iterdir()] == ["saved.safetensors"]


def test_what_was_not_loaded_comes_from_the_base_bit_for_bit(tmp_path):
    base = write_golden("B", tmp_path, extra=EXTRA, settings=SETTINGS)
    backbone = trained(load(base, {"audio"}))
    path = tmp_path / "saved.safetensors"
    save_full(backbone, path, base=str(base), dtype=torch.bfloat16, metadata={})
    before, after = load_file(base), load_file(path)
    assert before.keys() == after.keys()
    own = {PREFIX + "audio_patchify_proj.weight", PREFIX + "transformer_blocks.1.audio_attn1.to_k.weight"}
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert own <= moved
    assert moved <= {PREFIX + name for name in golden_weights("B") if "audio_" in name}
    name = PREFIX + "audio_patchify_proj.weight"
    assert torch.equal(after[name], (before[name].float() * 1.25).bfloat16())
    assert torch.equal(after["vae.encoder.conv_in.weight"], EXTRA["vae.encoder.conv_in.weight"])


def test_what_was_not_loaded_of_a_base_in_eight_bits_is_saved_as_it_was_read(tmp_path):
    base = write_golden("B", tmp_path, extra=EXTRA, settings=SETTINGS)
    meant = in_eight_bits(base, "official")
    backbone = trained(load(base, {"audio"}))
    path = tmp_path / "saved.safetensors"
    save_full(backbone, path, base=str(base), dtype=torch.bfloat16, metadata={})
    after = load_file(path)
    assert not any(name.endswith("_scale") for name in after)
    kept = PREFIX + "transformer_blocks.0.attn1.to_q.weight"
    assert torch.equal(after[kept], meant[kept].bfloat16())
    own = PREFIX + "transformer_blocks.0.audio_attn1.to_q.weight"
    assert torch.equal(after[own], (meant[own] * 1.25).bfloat16())
    load(path)


def test_a_model_larger_than_asked_is_saved_in_parts_whose_index_loads_again(tmp_path):
    base = write_golden("B", tmp_path, extra=EXTRA, settings=SETTINGS)
    backbone = trained(load(base, {"audio"}))
    largest = base.stat().st_size // 3
    one = save_full(backbone, tmp_path / "one.safetensors", base=str(base), dtype=torch.float32, metadata={"step": "7"})
    index = save_full(
        backbone, tmp_path / "parts" / "model.safetensors", base=str(base), dtype=torch.float32, metadata={"step": "7"}, largest=largest
    )
    assert index == tmp_path / "parts" / "model.safetensors.index.json"
    parts = sorted(index.parent.glob("*.safetensors"))
    assert len(parts) >= 3
    assert [part.name for part in parts] == [f"model-{i + 1:05d}-of-{len(parts):05d}.safetensors" for i in range(len(parts))]
    together = {name: tensor for part in parts for name, tensor in load_file(part).items()}
    whole = load_file(one)
    assert together.keys() == whole.keys()
    assert all(torch.equal(together[name], whole[name]) for name in whole)
    said = json.loads(index.read_text())
    assert said["weight_map"] == {name: part.name for part in parts for name in load_file(part)}
    assert said["metadata"] == {"total_size": sum(tensor.nbytes for tensor in whole.values())}
    assert read_header(index).metadata == read_header(one).metadata
    expected, found = (load(path, {"audio"})(None, golden_inputs("B.joint.mask")["audio"])["audio"] for path in (one, index))
    assert torch.equal(found, expected)
    again = save_full(load(index, {"audio"}), tmp_path / "again.safetensors", base=str(index), dtype=torch.float32, metadata={})
    assert all(torch.equal(tensor, whole[name]) for name, tensor in load_file(again).items())


def test_an_index_with_a_part_that_is_missing_is_refused(tmp_path):
    backbone = load("tiny-untrained", {"audio"})
    index = save_full(backbone, tmp_path / "model.safetensors", base="tiny-untrained", dtype=torch.bfloat16, metadata={}, largest=2**22)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError) as error:
        load(index)
    assert str(error.value).replace(str(tmp_path), "TMP") == (
        "TMP: lacks 1 of the 2 files that model.safetensors.index.json names: model-00002-of-00002.safetensors\n"
        "    Download the rest of the folder."
    )


def test_the_untrained_tiny_model_is_saved_whole_though_only_a_part_was_loaded(tmp_path):
    backbone = trained(load("tiny-untrained", {"audio"}, seed=3))
    path = tmp_path / "tiny.safetensors"
    save_full(backbone, path, base="tiny-untrained", dtype=torch.bfloat16, metadata={"text_fingerprint": "abc"})
    whole, fresh = load(path), load("tiny-untrained", seed=3)
    assert torch.equal(whole.transformer.proj_in.weight, fresh.transformer.proj_in.weight.bfloat16().float())
    assert torch.equal(whole.transformer.audio_proj_in.weight, backbone.transformer.audio_proj_in.weight.bfloat16().float())
    info = describe(str(path))
    assert (info.generation, info.text_fingerprint, info.num_layers) == ("tiny", "abc", 4)
    assert path.stat().st_size < 9_000_000
    assert json.loads(read_header(path).metadata["config"])["transformer"]["num_layers"] == 4
    assert whole(None, random_input("audio", 3))["audio"].isfinite().all()


def test_the_base_may_be_written_over_and_is_replaced_in_one_go(tmp_path):
    base = write_golden("B", tmp_path)
    backbone = trained(load(base, {"audio"}))
    save_full(backbone, base, base=str(base), dtype=torch.float32, metadata={})
    assert torch.equal(load(base).transformer.audio_proj_in.weight, backbone.transformer.audio_proj_in.weight)
    assert torch.equal(load(base).transformer.proj_in.weight, golden_weights("B")["patchify_proj.weight"].float())


def test_another_base_is_refused(tmp_path):
    backbone = load(write_golden("B", tmp_path))
    other = write_golden("A", tmp_path)
    for base in (str(other), "tiny-untrained"):
        with pytest.raises(CheckpointError) as error:
            save_full(backbone, tmp_path / "x", base=base, dtype=torch.float32, metadata={})
        assert str(error.value) == (
            f'{base}: the model was loaded from "B.safetensors", but this is a different base model (its fingerprint differs)\n'
            "    Name the file that the run was started from."
        )
    assert not (tmp_path / "x").exists()


def test_a_model_with_adapters_is_not_saved_whole(tmp_path):
    backbone = load("tiny-untrained", {"audio"})
    add_lora(backbone, rank=2, alpha=2, dropout=0.0, target_modules=["to_k"])
    with pytest.raises(CheckpointError) as error:
        save_full(backbone, tmp_path / "x", base="tiny-untrained", dtype=torch.float32, metadata={})
    assert str(error.value) == f"{tmp_path}/x: a model with adapters is saved as a LoRA, not as a whole model\n    Use save_lora."
