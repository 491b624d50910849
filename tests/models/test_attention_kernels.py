"""Every program that computes attention gives the same numbers as the formula, and one that cannot work here is refused with the reason."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import Tensor

from helpers.golden_models import BOTH, random_input
from ltxcore.config.acceleration import AttentionName
from ltxcore.errors import ConfigError
from ltxcore.models.attention import Attention, attend, use_kernel
from ltxcore.models.attention_kernels import KERNELS, SDPA, said, tried
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.grouped_attention import Groups
from ltxcore.models.load_base import load_backbone
from ltxcore.protocols import ModelInput
from models.test_grouped_attention import dense, weights_of

CPU = torch.device("cpu")
HERE: list[AttentionName] = ["auto", "sdpa", "flash", "flex"]
"""The kernels that compute on a CPU."""


def drawn(tokens: int, width: int = 16) -> list[Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    return [torch.randn(2, 3, tokens, width, generator=generator) for _ in range(3)]


def by_formula(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    scores = query @ key.mT / query.shape[-1] ** 0.5
    return (scores if bias is None else scores + bias).softmax(-1) @ value


@pytest.mark.parametrize("rows", [None, 1, 7], ids=["without a bias", "a bias of keys", "a bias of pairs"])
@pytest.mark.parametrize("name", HERE)
def test_every_kernel_computes_attention_by_its_formula(name: AttentionName, rows: int | None) -> None:
    query, key, value = drawn(7)
    bias = None if rows is None else torch.linspace(-3, 0, 2 * rows * 7).view(2, 1, rows, 7)
    found = attend(query, key, value, bias, None, KERNELS[name])
    torch.testing.assert_close(found, by_formula(query, key, value, bias), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", HERE)
def test_every_kernel_weighs_groups_by_their_strengths(name: AttentionName) -> None:
    sizes, strengths = (6, 3, 4), (0.3, 1.0)
    query, key, value = drawn(13)
    found = attend(query, key, value, None, Groups(sizes, torch.tensor(strengths)), KERNELS[name])
    expected = dense(query.double(), key.double(), value.double(), weights_of(sizes, strengths))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_flash_attention_passes_the_gradients_of_torchs_own_choice() -> None:
    of_kernel = []
    for name in ("sdpa", "flash"):
        tensors = [each.requires_grad_() for each in drawn(9)]
        (attend(*tensors, None, None, KERNELS[name]) * drawn(9)[0].flip(2)).sum().backward()
        of_kernel.append([each.grad for each in tensors])
    assert all(torch.equal(a, b) for a, b in zip(*of_kernel, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["flash", "flash3", "sage"])
def test_a_kernel_without_a_bias_or_for_narrower_heads_leaves_such_calls_to_torch(name: AttentionName) -> None:
    asked = []
    kernel = attrs.evolve(KERNELS[name], attend=lambda *given: asked.append(given) or given[2])
    query, key, value = drawn(7, 264)
    found = kernel(query, key, value)
    narrow, bias = drawn(7), torch.zeros(2, 1, 1, 7)
    with_bias = kernel(*narrow, bias)
    assert asked == []
    assert torch.equal(found, SDPA(query, key, value))
    assert torch.equal(with_bias, SDPA(*narrow, bias))
    assert kernel(*narrow) is narrow[2]
    assert len(asked) == 1


@pytest.fixture(scope="module")
def backbone() -> LTXBackbone:
    return load_backbone("tiny", BOTH, dtype=torch.float32)


def both() -> tuple[ModelInput, ModelInput]:
    """Of two samples, whose text has a mask."""
    sigma = torch.tensor([0.3, 0.8])
    return random_input("video", 12, seed=1, sigma=sigma), random_input("audio", 7, seed=2, sigma=sigma)


@pytest.mark.parametrize("name", HERE)
@torch.no_grad()
def test_a_model_predicts_the_same_with_every_kernel(name: AttentionName, backbone: LTXBackbone) -> None:
    given = both()
    use_kernel(backbone, "sdpa", CPU, torch.float32, training=False)
    expected = backbone(*given)
    use_kernel(backbone, name, CPU, torch.float32, training=False)
    found = backbone(*given)
    for modality, velocity in expected.items():
        torch.testing.assert_close(found[modality], velocity, rtol=0, atol=1e-4)


@torch.no_grad()
def test_all_attention_of_a_model_goes_through_its_kernel(backbone: LTXBackbone) -> None:
    calls = []

    def counted(*given: Tensor) -> Tensor:
        calls.append(given[0].shape)
        return SDPA(*given)

    for module in backbone.modules():
        if isinstance(module, Attention):
            module.kernel = attrs.evolve(SDPA, attend=counted)
    backbone(*both())
    assert len(calls) == 4 * 6  # in each block: to themselves, to the text and to each other, in two modalities


@pytest.mark.parametrize("name", ["flash", "flex"])
def test_a_kernel_is_compiled_as_part_of_a_block(name: AttentionName) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda *tensors: attend(*tensors, None, None, KERNELS[name]), backend="aot_eager", fullgraph=True)
    query, key, value = drawn(7)
    torch.testing.assert_close(compiled(query, key, value), by_formula(query, key, value, None), rtol=0, atol=2e-6)


# ---------------------------------------------------------------- what cannot be had


def refusal(name: AttentionName, training: bool) -> list[str]:
    with pytest.raises(ConfigError) as error:
        tried(name, [32], CPU, torch.float32, training=training)
    return str(error.value).splitlines()


def test_a_kernel_whose_package_is_missing_says_how_to_install_it() -> None:
    assert refusal("flash3", True) == [
        'acceleration.attention: "flash3" needs the package flash_attn_interface, which is not installed',
        '    Install it with `pip install "git+https://github.com/Dao-AILab/flash-attention#subdirectory=hopper"`, or use "auto".',
    ]
    assert refusal("sage", False) == [
        'acceleration.attention: "sage" needs the package sageattention, which is not installed',
        '    Install it with `pip install "git+https://github.com/thu-ml/SageAttention"`, or use "auto".',
    ]


def test_a_kernel_that_fails_on_this_device_is_refused_with_the_reason_of_its_library() -> None:
    assert tried("flex", [32], CPU, torch.float32, training=False) is KERNELS["flex"]
    first, remedy = refusal("flex", True)
    assert first.startswith('acceleration.attention: "flex" cannot train on cpu in float32 with heads of width 32: FlexAttention')
    assert remedy == '    Use "auto".'


def test_the_choice_that_torch_makes_is_named() -> None:
    assert said("auto", [16, 32], CPU, torch.float32) == "sdpa, for which torch takes flash here"
    assert said("flash", [16, 32], CPU, torch.float32) == "flash"
