"""Base models in every layout that they come in: read whole, strictly, and to the same numbers; refused where they are not whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from helpers.golden_io import load_case
from helpers.golden_models import BOTH, PREFIX, golden_inputs, stock_model
from helpers.layouts import LAYOUTS, folder, parts, split, tensors_of, unified
from ltxcore.errors import LtxError
from ltxcore.models.load_base import describe, load_backbone
from ltxcore.models.save import save_full

CASES = [
    "A.joint.mask",
    "A.video_only.mask",
    "A.audio_only.mask",
    "B.joint.mask",
    "B.video_only.mask",
    "B.audio_only.mask",
    "C.joint.mask",
    "C.video_only.mask",
]
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Writes a golden model in a layout, once."""
    found: dict[tuple[str, str], Path] = {}

    def write(layout: str, name: str) -> Path:
        if (layout, name) not in found:
            path = LAYOUTS[layout](name, tmp_path_factory.mktemp("base"))
            # A `transformer` of 2.5 is taken for the distilled one unless it is named itself.
            found[layout, name] = path / "transformer" if name == "C" and layout in ("folder", "parts") else path
        return found[layout, name]

    return write


def load(path: Path, modalities=BOTH):
    return load_backbone(str(path), frozenset(modalities), dtype=torch.float32)


def differs(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, in parts of the largest value."""
    return float((found.detach() - expected).abs().max() / expected.abs().max())


def refused(path: Path, *, tmp: Path, modalities=BOTH) -> str:
    with pytest.raises(LtxError) as error:
        load(path, modalities)
    return str(error.value).replace(str(tmp), "TMP")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case_id", CASES)
def test_a_forward_is_the_golden_one_whatever_the_layout(layout, case_id, written):
    case, given = load_case("06_model", case_id), golden_inputs(case_id)
    backbone = load(written(layout, case_id[0]), given)
    found = backbone(given.get("video"), given.get("audio"))
    assert found.keys() == given.keys()
    assert all(differs(found[name], case.outputs[name]) <= 1e-5 for name in found)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "generation"), [("A", "2.0"), ("B", "2.3"), ("C", "2.5")])
def test_the_generation_is_read_from_the_configuration_in_every_layout(layout, name, generation, written):
    info = describe(str(written(layout, name)))
    assert (info.generation, info.num_layers, info.video_scale) == (generation, 2, (8, 32, 32))
    assert info.has_connectors == (layout in ("unified", "split"))
    assert len(info.fingerprint) == 32


def test_the_name_says_which_file_or_folder_was_read(written):
    assert describe(str(written("split", "B"))).name == "transformer-bf16.safetensors"
    place = written("beside a distilled one", "C")
    assert describe(str(place)).name == f"{place.name}/transformer_full"


def test_every_tensor_of_a_folder_in_parts_is_that_of_the_model(written):
    expected = stock_model("B").state_dict()
    assert len(list((written("parts", "B") / "transformer").glob("*.safetensors"))) > 3
    found = dict(load(written("parts", "B")).transformer.named_parameters())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


# ---------------------------------------------------------------- which folder is read


def test_a_distilled_transformer_of_2_5_is_not_trained_unasked(tmp_path):
    assert refused(folder("C", tmp_path / "ltx"), tmp=tmp_path) == (
        'TMP/ltx: "transformer" of LTX-2.5 is the distilled model, but the one to train, "transformer_full", is missing\n'
        "    Download transformer_full too; or, to train the distilled model anyway, name TMP/ltx/transformer itself."
    )
    assert load(tmp_path / "ltx" / "transformer").modalities == BOTH


def test_a_folder_of_something_else_is_refused(tmp_path):
    assert refused(tmp_path, tmp=tmp_path) == (
        'TMP: this folder has neither a folder "transformer" nor a config.json, nor a file of a transformer\n'
        "    Name a safetensors file in the official layout, a folder with one, or a complete folder in the layout of diffusers."
    )
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "LTXVideoTransformer3DModel"}))
    (tmp_path / WEIGHTS).write_bytes(b"")
    save_file({"x": torch.zeros(1)}, tmp_path / WEIGHTS)
    assert refused(tmp_path, tmp=tmp_path) == (
        "TMP/config.json: this is the configuration of LTXVideoTransformer3DModel, not of LTX2VideoTransformer3DModel\n    Name the folder that holds the LTX-2 model."
    )


def test_settings_in_a_folder_that_the_model_cannot_do_are_all_named(tmp_path):
    path = folder("B", tmp_path / "ltx") / "transformer" / "config.json"
    told = json.loads(path.read_text()) | {"audio_gated_attn": False, "patch_size": 2, "rope_type": "split", "new_setting": 3}
    path.write_text(json.dumps(told))
    assert refused(tmp_path / "ltx", tmp=tmp_path) == "\n".join(
        f"TMP/ltx/transformer/config.json: the transformer's setting {key} = {value} is not known"
        for key, value in (("patch_size", "2"), ("audio_gated_attn", "false"), ("new_setting", "3"))
    )


def test_a_key_that_a_folder_does_not_say_means_the_default_of_diffusers(tmp_path):
    path = folder("B", tmp_path / "ltx") / "transformer" / "config.json"
    told = json.loads(path.read_text())
    for key in ("ff_bias", "audio_ff_bias", "use_keyframes_abs_pos_embedding", "timestep_scale_multiplier"):
        del told[key]
    path.write_text(json.dumps(told))
    given = golden_inputs("B.joint.mask")
    found = load(tmp_path / "ltx")(given["video"], given["audio"])
    assert differs(found["video"], load_case("06_model", "B.joint.mask").outputs["video"]) <= 1e-5


# ---------------------------------------------------------------- what is not whole


def test_a_folder_that_lacks_a_part_is_refused(tmp_path):
    place = parts("B", tmp_path / "ltx") / "transformer"
    files = sorted(place.glob("*.safetensors"))
    files[1].unlink()
    assert refused(tmp_path / "ltx", tmp=tmp_path) == (
        f"TMP/ltx/transformer: lacks 1 of the {len(files)} files that {WEIGHTS}.index.json names: {files[1].name}\n"
        "    Download the rest of the folder."
    )


def test_a_folder_whose_index_was_not_downloaded_is_refused(tmp_path):
    place = parts("B", tmp_path / "ltx") / "transformer"
    (place / f"{WEIGHTS}.index.json").unlink()
    count = len(list(place.glob("*.safetensors")))
    assert refused(tmp_path / "ltx", tmp=tmp_path) == (
        f"TMP/ltx/transformer: this folder has {count} safetensors files and no index\n    Download the complete folder again."
    )


def test_a_folder_whose_parts_were_renamed_is_refused(tmp_path):
    place = parts("B", tmp_path / "ltx") / "transformer"
    first, second = sorted(place.glob("*.safetensors"))[:2]
    (content_1, content_2) = first.read_bytes(), second.read_bytes()
    first.write_bytes(content_2)
    second.write_bytes(content_1)
    assert f"{WEIGHTS}.index.json and the files that it names disagree about " in refused(tmp_path / "ltx", tmp=tmp_path)


def test_an_index_that_names_files_elsewhere_is_refused(tmp_path):
    place = parts("B", tmp_path / "ltx") / "transformer"
    path = place / f"{WEIGHTS}.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["proj_in.weight"] = "../../secret.safetensors"
    path.write_text(json.dumps(index))
    assert refused(tmp_path / "ltx", tmp=tmp_path) == (
        f"TMP/ltx/transformer/{WEIGHTS}.index.json: names files outside its folder: ../../secret.safetensors\n    Download the complete folder again."
    )


def test_a_part_that_is_cut_off_is_refused(tmp_path):
    place = parts("B", tmp_path / "ltx") / "transformer"
    last = sorted(place.glob("*.safetensors"))[-1]
    size = last.stat().st_size
    last.write_bytes(last.read_bytes()[:-1])
    assert refused(tmp_path / "ltx", tmp=tmp_path) == (
        f"TMP/ltx/transformer/{last.name}: is truncated: only {size - 1} of {size} bytes are there\n    Download or copy the file again."
    )


@pytest.mark.parametrize("modalities", [BOTH, {"audio"}])
def test_a_pointer_to_a_large_file_is_not_taken_for_it(tmp_path, modalities):
    place = folder("B", tmp_path / "ltx") / "transformer"
    (place / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 44000000000\n")
    assert refused(tmp_path / "ltx", tmp=tmp_path, modalities=modalities) == (
        f"TMP/ltx/transformer/{WEIGHTS}: is a pointer of Git LFS, not the file itself\n    Run `git lfs pull` in its folder."
    )


def test_a_file_of_the_right_size_whose_end_never_came_is_refused(tmp_path):
    path = split("B", tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    found = refused(path, tmp=tmp_path)
    assert found.startswith("TMP/transformer-bf16.safetensors: model.diffusion_model.")
    assert found.endswith("contains only zeros: the file was not downloaded completely\n    Download it again.")


def test_values_that_are_not_finite_are_refused(tmp_path):
    place = folder("B", tmp_path / "ltx") / "transformer"
    tensors = dict(tensors_of(place / WEIGHTS))
    tensors["audio_proj_in.weight"][0, 0] = float("nan")
    save_file(tensors, place / WEIGHTS)
    assert refused(tmp_path / "ltx", tmp=tmp_path) == (
        "TMP/ltx/transformer: audio_proj_in.weight has NaN or infinite values\n    Download or copy the file again."
    )


def test_packed_weights_are_refused(tmp_path):
    place = folder("B", tmp_path / "ltx") / "transformer"
    tensors = dict(tensors_of(place / WEIGHTS))
    tensors["proj_in.weight"] = tensors["proj_in.weight"].to(torch.int8)
    save_file(tensors, place / WEIGHTS)
    assert refused(tmp_path / "ltx", tmp=tmp_path) == (
        "TMP/ltx/transformer: 1 tensor is packed, which is not supported: patchify_proj.weight (torch.int8)\n"
        "    Use the bf16 file, and quantization under [acceleration]."
    )


@pytest.mark.parametrize(("says", "has", "told"), [("C", "A", ("2.5", "2.0")), ("A", "B", ("2.0", "2.3")), ("B", "C", ("2.3", "2.5"))])
def test_weights_of_another_generation_than_the_configuration_are_refused_with_a_sentence(says, has, told, tmp_path):
    folder(says, tmp_path / "ltx", called="transformer_full")
    folder(has, tmp_path / "other")
    shutil.copy(tmp_path / "other" / "transformer" / WEIGHTS, tmp_path / "ltx" / "transformer_full" / WEIGHTS)
    first, second, *_ = refused(tmp_path / "ltx", tmp=tmp_path).splitlines()
    assert first == f"TMP/ltx/transformer_full: the tensors are those of LTX-{told[1]}, but the configuration says LTX-{told[0]}"
    assert second == "    Download the file again, with the configuration that belongs to it."


def test_names_are_spelled_as_the_folder_has_them(tmp_path):
    place = folder("B", tmp_path / "ltx") / "transformer"
    tensors = dict(tensors_of(place / WEIGHTS))
    del tensors["time_embed.linear.weight"]
    tensors["transformer_blocks.0.attn1.q_norm.weight"] = torch.zeros(3)
    save_file(tensors, place / WEIGHTS)
    found = refused(tmp_path / "ltx", tmp=tmp_path)
    assert found.splitlines()[0] == "TMP/ltx/transformer: 1 tensor is missing: time_embed.linear.weight"


# ---------------------------------------------------------------- saved again


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_a_model_from_a_folder_is_saved_as_one_file_in_the_original_layout(name, tmp_path):
    place = folder(name, tmp_path / "ltx", called="transformer_full")
    backbone = load(place, {"audio"})
    save_full(backbone, tmp_path / "saved.safetensors", base=str(place), dtype=torch.bfloat16, metadata={})
    found, expected = tensors_of(tmp_path / "saved.safetensors"), tensors_of(unified(name, tmp_path))
    own = {key for key in expected if key.startswith(PREFIX) and "connector" not in key}
    assert found.keys() == own
    assert all(torch.equal(found[key], expected[key]) for key in own)
    given = golden_inputs(f"{name}.joint.mask")
    again = load(tmp_path / "saved.safetensors")(given["video"], given["audio"])
    assert differs(again["video"], load_case("06_model", f"{name}.joint.mask").outputs["video"]) <= 1e-5
