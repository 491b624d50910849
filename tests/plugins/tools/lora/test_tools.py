"""`ltx lora merge`, `extract`, `resize` and `info`, against the arithmetic that the tests do themselves."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ltxcore.cli.main import main
from ltxcore.models import TINY_BASE
from ltxcore.models.checkpoint_files import open_checkpoint
from ltxcore.models.parameter_names import to_original

PREFIX = "diffusion_model."
K = "transformer_blocks.0.attn1.to_k"
FF = "transformer_blocks.1.ff.net.0.proj"
BASE = load_file(TINY_BASE)
START = "model." + PREFIX


def weight(module: str) -> Tensor:
    return BASE[f"{START}{module}.weight"].float()


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def pair(module: str, rank: int, seed: int) -> dict[str, Tensor]:
    rows, columns = weight(module).shape
    return {"lora_A.weight": drawn(rank, columns, seed=seed), "lora_B.weight": drawn(rows, rank, seed=seed + 1)}


def change(own: dict[str, Tensor]) -> Tensor:
    return own["lora_B.weight"] @ own["lora_A.weight"]


def lora(path: Path, modules: dict[str, dict[str, Tensor]], prefix: str = PREFIX, **said: str) -> Path:
    tensors = {f"{prefix}{module}.{ending}": tensor for module, own in modules.items() for ending, tensor in own.items()}
    save_file(tensors, path, metadata={"format": "pt", **said})
    return path


def ltx(*words: object) -> Result:
    return CliRunner().invoke(main, ["lora", *map(str, words)])


def done(*words: object) -> str:
    result = ltx(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def changes(path: Path) -> dict[str, Tensor]:
    found = load_file(path)
    return {
        name.removesuffix(".lora_A.weight").removeprefix(PREFIX): found[name.replace("lora_A", "lora_B")].float() @ tensor.float()
        for name, tensor in found.items()
        if name.endswith("lora_A.weight")
    }


def relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


# ---------------------------------------------------------------- merge


def test_one_lora_of_several_is_their_sum_whatever_their_layouts_ranks_and_alphas(tmp_path: Path) -> None:
    one, two = pair(K, 3, 1), pair(K, 2, 3)
    first = lora(tmp_path / "a.safetensors", {K: one}, trigger="ltxworld", rank="3", use_rslora="true")
    own = {"lora_down.weight": two["lora_A.weight"], "lora_up.weight": two["lora_B.weight"], "alpha": torch.tensor(6.0)}
    kohya = {f"lora_unet_{K.replace('.', '_')}.{ending}": tensor for ending, tensor in own.items()}
    save_file(kohya, tmp_path / "b.safetensors", metadata={"trigger": "ltxworld"})
    out = tmp_path / "sum.safetensors"
    assert (
        done("merge", f"{first}:0.5", f"{tmp_path / 'b.safetensors'}:-2", "-o", out) == f"{out}: one LoRA of 2, with 1 modules of rank 5\n"
    )
    torch.testing.assert_close(changes(out)[K], 0.5 * change(one) - 2 * 6 / 2 * change(two), atol=1e-6, rtol=1e-6)
    said = metadata(out)
    assert (said["trigger"], said["rank"], said["alpha_is_folded"]) == ("ltxworld", "5", "true")
    assert "use_rslora" not in said
    assert json.loads(said["merged_loras"])[0] == {
        "name": "a.safetensors",
        "strength": 0.5,
        "sha256": sha256(first.read_bytes()).hexdigest(),
    }


@pytest.mark.parametrize(
    ("own", "other", "shape"),
    [
        ({"lora_A.weight": (2, 128), "lora_B.weight": (128, 2)}, {"lora_A.weight": (2, 64), "lora_B.weight": (64, 2)}, "[64, 64]"),
        ({"diff": (128, 128)}, {"diff": (1, 128)}, "[1, 128]"),  # torch would add this row to every row
    ],
)
def test_loras_of_other_shapes_are_not_merged(
    own: dict[str, tuple[int, ...]], other: dict[str, tuple[int, ...]], shape: str, tmp_path: Path
) -> None:
    files = [
        lora(tmp_path / name, {K: {ending: torch.ones(each) for ending, each in shapes.items()}})
        for name, shapes in (("a.safetensors", own), ("b.safetensors", other))
    ]
    result = ltx("merge", *files, "-o", tmp_path / "out.safetensors")
    assert (result.exit_code, result.stderr) == (
        2,
        f"{files[1]}: the adapter of {K} is {shape} here, but [128, 128] in {files[0]}\n    Use LoRAs of the same base model together.\n",
    )
    assert not (tmp_path / "out.safetensors").exists()


def dora(module: str) -> tuple[dict[str, Tensor], Tensor]:
    own = pair(module, 2, 5)
    lengths = drawn(weight(module).shape[0], seed=9).abs() + 1
    turned = weight(module) + change(own)
    return {**own, "lora_magnitude_vector": lengths}, lengths[:, None] * turned / turned.norm(dim=1, keepdim=True)


def lokr(module: str) -> tuple[dict[str, Tensor], Tensor]:
    rows, columns = weight(module).shape
    one, two = drawn(4, 8, seed=11), drawn(rows // 4, columns // 8, seed=12)
    return {"lokr_w1": one, "lokr_w2": two}, weight(module) + torch.kron(one, two)


def dora_for_comfyui(module: str) -> tuple[dict[str, Tensor], Tensor]:
    own, trained = dora(module)
    turned = weight(module) + change(own)
    lengths = own.pop("lora_magnitude_vector")
    return {**own, "dora_scale": (lengths * weight(module).norm(dim=1) / turned.norm(dim=1))[:, None]}, trained


@pytest.mark.parametrize(("make", "prefix"), [(dora, "transformer."), (dora_for_comfyui, PREFIX), (lokr, PREFIX)])
def test_a_model_with_loras_of_several_types_has_their_changes_and_is_otherwise_the_same(make: object, prefix: str, tmp_path: Path) -> None:
    tensors, trained = make(K)  # type: ignore[operator]
    other = pair(FF, 2, 20)
    files = [lora(tmp_path / "a.safetensors", {K: tensors}, prefix), lora(tmp_path / "b.safetensors", {FF: other})]
    out = tmp_path / "model.safetensors"
    assert "2 modules changed, a weight by at most" in done("merge", f"{files[0]}:0.5", files[1], "--model", "tiny", "-o", out)
    found = load_file(out)
    assert found.keys() == BASE.keys()
    expected = {K: weight(K) + 0.5 * (trained - weight(K)), FF: weight(FF) + change(other)}
    for name, tensor in found.items():
        module = name.removeprefix(START).removesuffix(".weight")
        assert tensor.dtype == BASE[name].dtype
        if module in expected:
            torch.testing.assert_close(tensor.float(), expected[module].to(tensor.dtype).float(), atol=1e-6, rtol=2**-7)
        else:
            assert torch.equal(tensor, BASE[name])
    assert [each["strength"] for each in json.loads(metadata(out)["merged_loras"])] == [0.5, 1.0]


def test_a_model_is_merged_into_the_layout_of_diffusers_too(tmp_path: Path) -> None:
    from diffusers import LTX2VideoTransformer3DModel

    first = lora(tmp_path / "a.safetensors", {K: pair(K, 2, 1), FF: pair(FF, 2, 20)})
    one, folder = tmp_path / "model.safetensors", tmp_path / "merged"
    done("merge", first, "--model", "tiny", "-o", one)
    words = ("merge", first, "--model", "tiny", "--layout", "diffusers", "-o", folder)
    assert done(*words).startswith(f"{folder}: 2 modules changed")
    theirs, expected = LTX2VideoTransformer3DModel.from_pretrained(folder).state_dict(), load_file(one)
    assert {START + to_original(name) for name in theirs} == expected.keys()
    for name, tensor in theirs.items():
        assert torch.equal(tensor.to(torch.bfloat16), expected[START + to_original(name)].to(torch.bfloat16)), name
    again = tmp_path / "again"
    done("merge", first, "--model", folder, "--layout", "diffusers", "--max-shard-size", "0.004", "-o", again)
    assert len(list(again.glob("*.safetensors"))) > 1
    assert open_checkpoint(str(again)).transformer == open_checkpoint(str(folder)).transformer
    part = sorted(again.glob("*.safetensors"))[0]
    assert [each["name"] for each in json.loads(metadata(part)["merged_loras"])] == ["a.safetensors", "a.safetensors"]
    refused = ltx(*words)
    assert (refused.exit_code, "this file already exists" in refused.output) == (2, True)
    refused = ltx(*words[:-1], one)
    assert f"{one}: this is a file\n    Name the folder to write." in refused.output


def test_what_was_merged_into_a_merged_lora_is_not_forgotten(tmp_path: Path) -> None:
    first, second, third = (lora(tmp_path / f"{name}.safetensors", {K: pair(K, 2, seed)}) for seed, name in enumerate("abc"))
    both, all_of_them, model = (tmp_path / f"{name}.safetensors" for name in ("both", "all", "model"))
    done("merge", f"{first}:0.5", second, "-o", both)
    done("merge", f"{both}:2", third, "-o", all_of_them)
    found = json.loads(metadata(all_of_them)["merged_loras"])
    assert [(each["name"], each["strength"]) for each in found] == [("both.safetensors", 2.0), ("c.safetensors", 1.0)]
    assert [(each["name"], each["strength"]) for each in found[0]["merged_loras"]] == [("a.safetensors", 0.5), ("b.safetensors", 1.0)]
    said = json.dumps([{"name": "a.safetensors", "strength": 1.0, "sha256": sha256(first.read_bytes()).hexdigest()}])
    over = lora(tmp_path / "over.safetensors", {K: pair(K, 2, 7)}, frozen_loras=said)
    assert ltx("merge", all_of_them, over, "--model", "tiny", "-o", model).stderr == "", "the first is in it, with the strength 0.5 x 2"
    assert "was trained on top of a.safetensors" in ltx("merge", both, over, "--model", "tiny", "-o", model, "--overwrite").stderr


def test_a_quantized_base_is_refused_by_name(tmp_path: Path) -> None:
    base = tmp_path / "eight.safetensors"
    name = f"{START}{K}.weight"
    with safe_open(TINY_BASE, "pt") as file:
        save_file({**BASE, name: BASE[name].to(torch.float8_e4m3fn)}, base, metadata=file.metadata())
    one = lora(tmp_path / "a.safetensors", {K: pair(K, 2, 1)})
    result = ltx("merge", one, "--model", base, "-o", tmp_path / "x.safetensors")
    assert result.exit_code == 2
    assert f"{base}: this model is quantized: 1 tensor is stored as F8_E4M3" in result.output
    assert not (tmp_path / "x.safetensors").exists()


def test_parts_of_a_model_are_neither_its_sources_nor_replaced_unless_that_is_asked_for(tmp_path: Path) -> None:
    first, out = lora(tmp_path / "a.safetensors", {K: pair(K, 2, 1)}), tmp_path / "m.safetensors"
    sharded = ("--max-shard-size", "0.004", "-o", out)
    index = done("merge", first, "--model", "tiny", *sharded).split(": ")[0]
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 4
    for words, what in (
        (("--model", index, "--overwrite"), "a file of the model"),
        (("--model", "tiny"), "this file already exists"),
    ):
        result = ltx("merge", first, *sharded, *words)
        assert result.exit_code == 2
        assert result.output.startswith(f"{tmp_path / 'm-00001-of-00002.safetensors'}: ")
        assert what in result.output
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    done("merge", first, "--model", "tiny", *sharded, "--overwrite")


def test_what_lies_under_a_merged_lora_and_in_the_model_is_not_forgotten(tmp_path: Path) -> None:
    under = lora(tmp_path / "under.safetensors", {K: pair(K, 2, 1)})
    said = json.dumps([{"name": "of-another-name.safetensors", "strength": 1.0, "sha256": sha256(under.read_bytes()).hexdigest()}])
    over = lora(tmp_path / "over.safetensors", {K: dora(K)[0]}, "transformer.", frozen_loras=said)
    thin = lora(tmp_path / "thin.safetensors", {K: pair(K, 2, 5)}, frozen_loras=said)
    other = lora(tmp_path / "other.safetensors", {K: pair(K, 2, 7)})
    both = tmp_path / "both.safetensors"
    done("merge", thin, other, "-o", both)
    assert metadata(both)["frozen_loras"] == said
    done("merge", thin, under, "-o", both, "--overwrite")
    assert "frozen_loras" not in metadata(both)
    model, last = tmp_path / "model.safetensors", tmp_path / "last.safetensors"
    noted = ltx("merge", thin, "--model", "tiny", "-o", model)
    assert noted.stderr == f"{thin} was trained on top of of-another-name.safetensors, which the model does not contain: merge it too.\n"
    done("merge", under, "--model", "tiny", "-o", model, "--overwrite")
    assert ltx("merge", over, "--model", model, "-o", last).stderr == ""
    assert [each["name"] for each in json.loads(metadata(last)["merged_loras"])] == ["under.safetensors", "over.safetensors"]


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (["merge", "lora", "--model", "tiny", "-o", "out"], "tensors 1/1"),
        (["extract", "tiny", "--model", "model", "-o", "out", "--rank", "2"], f"tensors {len(BASE)}/{len(BASE)}"),
        (["resize", "lora", "-o", "out", "--rank", "1"], "modules 1/1"),
        (["info", "lora"], "modules 1/1"),
    ],
)
def test_what_takes_minutes_shows_its_progress_on_a_terminal(
    words: list[str], steps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("COLUMNS", "140"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    files = {name: tmp_path / f"{name}.safetensors" for name in ("lora", "model", "out")}
    lora(files["lora"], {K: pair(K, 2, 1)})
    save_file({**BASE, f"{START}{K}.weight": BASE[f"{START}{K}.weight"] + 1}, files["model"], metadata=metadata(TINY_BASE))
    result = ltx(*(files.get(word, word) for word in words))
    assert result.exit_code == 0, result.output
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", result.stderr).strip().splitlines()[-1]
    name, count = steps.split()
    assert last.startswith(name)
    assert f" {count} " in last


@pytest.mark.parametrize("words", [("merge",), ("resize", "--rank", "1")])
def test_values_that_are_not_finite_are_found_before_anything_is_written(words: tuple[str, ...], tmp_path: Path) -> None:
    own = pair(K, 2, 1)
    own["lora_A.weight"][0, 0] = float("nan")
    result = ltx(words[0], lora(tmp_path / "a.safetensors", {K: own}), *words[1:], "-o", tmp_path / "x.safetensors")
    assert result.exit_code == 2
    assert f"1 adapter has values that are not finite: {K}" in result.output
    assert not (tmp_path / "x.safetensors").exists()


# ---------------------------------------------------------------- extract and resize


@pytest.mark.parametrize(
    ("own", "shape"),
    [
        ({"lora_A.weight": (2, 64), "lora_B.weight": (64, 2)}, "[64, 64]"),
        ({"lora_A.weight": (2, 128), "lora_B.weight": (1, 2)}, "[1, 128]"),  # torch would add this row to every row
        ({"diff_b": (64,)}, "[64, None]"),
    ],
)
def test_a_change_of_another_shape_is_not_merged_into_a_model(own: dict[str, tuple[int, ...]], shape: str, tmp_path: Path) -> None:
    file = lora(tmp_path / "a.safetensors", {K: {ending: torch.ones(each) for ending, each in own.items()}})
    result = ltx("merge", file, "--model", "tiny", "-o", tmp_path / "out.safetensors")
    assert result.exit_code == 2
    assert result.stderr == (
        f"{file}: {K} does not fit tiny: its shape is {shape} in the LoRA, but [128, 128] in the model\n"
        "    Name the model that the LoRA was trained on.\n"
    )
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]


def test_what_is_extracted_from_a_merged_model_is_the_lora_that_was_merged(tmp_path: Path) -> None:
    with safe_open(TINY_BASE, "pt") as file:
        said = file.metadata()
    wide = {name: tensor.float() if name.startswith(START) else tensor for name, tensor in BASE.items()}
    own = pair(K, 3, 1)
    bias = f"{START}{FF}.bias"
    save_file(wide, tmp_path / "base.safetensors", metadata=said)
    save_file(
        {**wide, f"{START}{K}.weight": wide[f"{START}{K}.weight"] + change(own), bias: wide[bias] + 1},
        tmp_path / "tuned.safetensors",
        metadata=said,
    )
    out = tmp_path / "lora.safetensors"
    base, tuned = tmp_path / "base.safetensors", tmp_path / "tuned.safetensors"
    told = done("extract", tuned, "--model", base, "--rank", "8", "--max-error", "0.001", "--dtype", "float32", "-o", out)
    assert f"{out}: 1 modules of rank 3\n" in told
    assert f"  no LoRA can hold the differences of other parameters (1): {FF}.bias\n" in told
    assert changes(out).keys() == {K}
    assert relative(changes(out)[K], change(own)) < 1e-4
    assert metadata(out)["extracted_from"] == "tuned.safetensors"


@pytest.mark.parametrize("make", [lambda: ({**pair(K, 12, 1)}, change(pair(K, 12, 1))), lambda: (lokr(K)[0], lokr(K)[1] - weight(K))])
def test_a_lower_rank_is_the_best_one_and_the_printed_error_is_that_of_the_file(make: object, tmp_path: Path) -> None:
    tensors, whole = make()  # type: ignore[operator]
    out = tmp_path / "small.safetensors"
    told = done("resize", lora(tmp_path / "a.safetensors", {K: tensors}), "--rank", "4", "-o", out)
    _, s, _ = torch.linalg.svd(whole.double())
    best = float(s[4:].norm() / s.norm())
    assert f"  {best:.3%} of the change is lost; most in {K}, where it is {best:.3%}\n" in told
    assert relative(changes(out)[K], whole) == pytest.approx(best, rel=1e-4)
    assert load_file(out)[f"{PREFIX}{K}.lora_A.weight"].shape[0] == 4


def test_the_rank_is_lowered_as_long_as_the_error_allows_it(tmp_path: Path) -> None:
    rows, columns = weight(K).shape
    u, _ = torch.linalg.qr(drawn(rows, 3, seed=1))
    v, _ = torch.linalg.qr(drawn(columns, 3, seed=2))
    own = {"lora_A.weight": v.T.contiguous(), "lora_B.weight": (u * torch.tensor([10.0, 1.0, 0.1])).contiguous()}
    out = tmp_path / "small.safetensors"
    source = lora(tmp_path / "a.safetensors", {K: own})
    assert "rank 1\n" in done("resize", source, "--rank", "3", "--max-error", "0.11", "-o", out)
    assert "rank 2\n" in done("resize", source, "--rank", "3", "--max-error", "0.05", "-o", out, "--overwrite")
    assert "rank 3\n" in done("resize", source, "--rank", "3", "-o", out, "--overwrite")


def test_a_type_whose_change_depends_on_the_base_needs_it(tmp_path: Path) -> None:
    tensors, trained = dora(K)
    source, out = lora(tmp_path / "a.safetensors", {K: tensors}, "transformer."), tmp_path / "x.safetensors"
    for words in (("resize", source, "--rank", "64", "-o", out), ("info", source)):
        result = ltx(*words)
        assert (result.exit_code, result.output) == (
            2,
            f'{source}: the change that adapters of the type "dora" make depends on the base model\n    Name the model that the LoRA was trained on: --model MODEL.\n',
        )
    done("resize", source, "--rank", "256", "--model", "tiny", "-o", out)
    assert relative(changes(out)[K], trained - weight(K)) < 1e-5


# ---------------------------------------------------------------- info


def test_info_measures_the_change_of_every_kind_of_module(tmp_path: Path) -> None:
    later = K.replace("0", "1", 1)
    pairs = {K: pair(K, 2, 1), later: pair(later, 4, 5), FF: pair(FF, 2, 9)}
    source = lora(tmp_path / "a.safetensors", pairs)
    found = json.loads(done("info", source, "--model", "tiny", "--json"))
    size = sum(float(change(pairs[name]).double().norm()) ** 2 for name in (K, later)) ** 0.5
    base = sum(float(weight(name).double().norm()) ** 2 for name in (K, later)) ** 0.5
    assert found["attn1.to_k"] == {
        "modules": 2,
        "rank": 4,
        "effective": pytest.approx(3, abs=0.51),
        "size": pytest.approx(size, rel=1e-5),
        "share": pytest.approx(size / base, rel=1e-5),
    }
    assert done("info", source).splitlines()[0].split() == ["MODULES", "RANK", "IN", "USE", "SIZE"]


@pytest.mark.parametrize(
    "own", [{"diff": weight(K)}, {"lokr_w1": drawn(2, 2, seed=1), "lokr_w2_a": drawn(64, 40, seed=2), "lokr_w2_b": drawn(40, 64, seed=3)}]
)
def test_the_rank_in_use_may_be_above_the_rank_of_the_file(own: dict[str, Tensor], tmp_path: Path) -> None:
    matrix = own["diff"] if "diff" in own else torch.kron(own["lokr_w1"], own["lokr_w2_a"] @ own["lokr_w2_b"])
    squares = torch.linalg.svdvals(matrix.double()).square()
    kept = squares.cumsum(0) / squares.sum()
    found = json.loads(done("info", lora(tmp_path / "a.safetensors", {K: own}), "--json"))["attn1.to_k"]
    assert found["effective"] == 1 + int((kept < 0.99).sum()) > found["rank"]
