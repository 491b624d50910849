"""Which modules a group has, the settings of their adapters, and what is said of a group that has none."""

from __future__ import annotations

import pytest

from ltxcore.adapters import AdapterSettings
from ltxcore.config.groups import Group, LoraGroup, OptimizationGroup
from ltxcore.errors import ConfigError
from ltxcore.models.groups import check_groups, group_of, has, names, settings_of

PATHS = [
    f"transformer_blocks.{number}.{module}"
    for number in range(4)
    for module in ("attn1.to_k", "attn1.to_out.0", "audio_attn1.to_k", "audio_to_video_attn.to_k", "ff.net.0.proj")
]
DEFAULT = AdapterSettings(rank=32, alpha=16, dropout=0.1)


@pytest.mark.parametrize(
    ("pattern", "path", "is_named"),
    [
        ("to_k", "transformer_blocks.3.attn1.to_k", True),
        ("attn1", "transformer_blocks.3.attn1.to_k", True),
        ("attn1.to_k", "transformer_blocks.3.audio_attn1.to_k", False),
        ("audio_*", "transformer_blocks.3.audio_attn1.to_k", True),
        ("attn?.to_k", "transformer_blocks.3.attn2.to_k", True),
        ("*.to_k", "transformer_blocks.3.attn2.to_k", True),
        ("attn*", "transformer_blocks.3.audio_attn1.to_k", False),
        ("transformer_blocks.1", "transformer_blocks.11.attn1.to_k", False),
        ("ff.proj", "transformer_blocks.3.ff.net.0.proj", False),
        ("to_k", "transformer_blocks.3.attn1.to_k.lora_A.default.weight", True),
        ("bias", "transformer_blocks.3.attn1.to_k.bias", True),
        ("patchify_proj", "proj_in.weight", True),
        ("proj_in", "proj_in.weight", True),
    ],
)
def test_a_pattern_names_whole_parts_of_a_path(pattern: str, path: str, is_named: bool) -> None:
    assert names(pattern, path) == is_named


@pytest.mark.parametrize(
    ("keys", "path", "is_in"),
    [
        ({"blocks": "0-3"}, "transformer_blocks.3.attn1.to_k", True),
        ({"blocks": "0-3"}, "transformer_blocks.4.attn1.to_k", False),
        ({"blocks": "0-3"}, "proj_out.weight", False),
        ({"modality": "video"}, "transformer_blocks.3.attn1.to_k", True),
        ({"modality": "video"}, "transformer_blocks.3.audio_to_video_attn.to_k", False),
        ({"modality": "cross"}, "transformer_blocks.3.audio_to_video_attn.to_k", True),
        ({"modality": "audio"}, "transformer_blocks.3.audio_attn1.to_k", True),
        ({"modality": "audio", "modules": ["ff"]}, "transformer_blocks.3.audio_attn1.to_k", False),
        ({"modules": ["ff", "to_k"], "blocks": "3"}, "transformer_blocks.3.audio_attn1.to_k", True),
    ],
)
def test_a_group_has_what_fits_all_of_its_keys(keys: dict[str, object], path: str, is_in: bool) -> None:
    assert has(Group(**keys), path) == is_in  # type: ignore[arg-type]


def test_the_first_group_that_names_a_module_has_it() -> None:
    groups = [OptimizationGroup(blocks="0-1"), OptimizationGroup(modules=["to_k"])]
    assert group_of(groups, "transformer_blocks.0.attn1.to_k") == 0
    assert group_of(groups, "transformer_blocks.2.attn1.to_k") == 1
    assert group_of(groups, "transformer_blocks.2.attn1.to_q") is None


def test_a_module_has_the_settings_of_its_group_and_else_those_of_all() -> None:
    groups = [
        LoraGroup(modules=["ff"], rank=64),
        LoraGroup(modules=["to_k"], blocks="0", alpha=8, dropout=0.0),
        LoraGroup(modality="cross", rank=8, alpha=8),
    ]
    found = settings_of(PATHS, DEFAULT, groups)
    assert found["transformer_blocks.2.attn1.to_k"] == DEFAULT
    assert found["transformer_blocks.0.ff.net.0.proj"] == AdapterSettings(64, 32, 0.1), "alpha / rank is that of all"
    assert found["transformer_blocks.0.attn1.to_k"] == AdapterSettings(32, 8, 0.0)
    assert found["transformer_blocks.0.audio_to_video_attn.to_k"] == AdapterSettings(32, 8, 0.0), "the second group came first"
    assert found["transformer_blocks.1.audio_to_video_attn.to_k"] == AdapterSettings(8, 8, 0.1)
    assert list(found) == PATHS


TRAINED = "These are trained: attn1.to_k, attn1.to_out.0, audio_attn1.to_k, audio_to_video_attn.to_k, ff.net.0.proj."


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"modules": ["to_k", "to_kk"]}, 'groups.0.modules.1: "to_kk" names nothing that is trained\n    Did you mean "to_k"?'),
        ({"modules": ["norm"]}, f'groups.0.modules.0: "norm" names nothing that is trained\n    {TRAINED}'),
        ({"blocks": "0-4"}, "groups.0.blocks: the model has 4 blocks, 0 to 3\n    Name others."),
        (
            {"modules": ["ff"], "blocks": "2-3", "modality": "audio"},
            "groups.0: the modules, blocks and modality of this group together name nothing that is trained\n"
            "    These are trained: ff.net.0.proj (video, blocks 0 to 3).",
        ),
    ],
)
def test_a_group_that_names_nothing_is_refused_with_what_it_could_name(keys: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_groups([Group(**keys)], PATHS, "groups", 4)  # type: ignore[arg-type]
    assert str(error.value) == said


def test_a_group_to_which_others_leave_nothing_is_refused() -> None:
    groups = [Group(modules=["attn1"]), Group(name="late", modules=["attn1.to_k"]), Group(modules=["ff"])]
    with pytest.raises(ConfigError) as error:
        check_groups(groups, PATHS, "lora.groups", 4)
    assert str(error.value) == (
        'lora.groups.1: earlier groups name everything that the group "late" names, and a module belongs to the first group that names it\n'
        "    Move this group before them, or remove it."
    )
    check_groups(groups[1:], PATHS, "lora.groups", 4)
