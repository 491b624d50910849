"""The tables of groups: which blocks they name, what they may be called, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ltxcore.config.groups import Group, LoraGroup, OptimizationGroup, in_blocks, told
from ltxcore.config.run_file import LoraTable, OptimizationTable
from ltxcore.config.structure import structurer_of
from ltxcore.config.tables import plain
from ltxcore.registry import load


@pytest.mark.parametrize(
    ("blocks", "found"),
    [("2", [2]), ("0-2", [0, 1, 2]), ("4-", [4, 5]), (" 0 - 1 , 5 ", [0, 1, 5]), ("3-9", [3, 4, 5])],
)
def test_blocks_are_numbers_and_ranges_of_them(blocks: str, found: list[int]) -> None:
    assert [number for number in range(6) if in_blocks(blocks, number)] == found
    assert not in_blocks(blocks, None), "what is in no block is in none of these"


def mistakes(cls: type, *groups: dict[str, Any]) -> list[str]:
    structurer = structurer_of(load(), Path())
    structurer.in_parts = {cls}
    structurer.converter.structure({"groups": list(groups)}, cls)
    return [f"{'.'.join(map(str, each.path))}: {each.what}" for each in structurer.reading.mistakes]


@pytest.mark.parametrize(
    ("group", "mistake"),
    [
        ({"blocks": "3-1"}, 'groups.0.blocks: "3-1" ends before it begins'),
        ({"blocks": "all"}, 'groups.0.blocks: "all" is not a range of blocks'),
        ({"blocks": ""}, 'groups.0.blocks: "" is not a range of blocks'),
        ({"modules": []}, "groups.0.modules: names no module"),
        ({"name": "lora_B", "modules": ["ff"]}, 'groups.0.name: "lora_B" cannot be the name of a group'),
        ({"name": "", "modules": ["ff"]}, 'groups.0.name: "" cannot be the name of a group'),
        ({}, "groups.0: names no modules, blocks or modality"),
        ({"modality": "sound"}, 'groups.0.modality: must be "video" or "audio" or "cross", not the text "sound"'),
    ],
)
@pytest.mark.parametrize("cls", [LoraTable, OptimizationTable])
def test_what_is_wrong_with_a_group_is_said_at_its_key(cls: type, group: dict[str, Any], mistake: str) -> None:
    assert mistakes(cls, {**group, "learning_rate": 1e-4}) == [mistake]


def test_a_group_that_sets_nothing_and_one_with_the_name_of_another_are_mistakes() -> None:
    assert mistakes(LoraTable, {"modules": ["ff"]}) == ["groups.0: sets nothing"]
    named = {"name": "deep", "modules": ["ff"], "learning_rate": 1e-4}
    assert mistakes(OptimizationTable, named, named) == ['groups.1: has the same name as another group, "deep"']


def test_only_a_lora_has_groups_of_rank() -> None:
    assert mistakes(LoraTable, {"blocks": "0-23", "rank": 64}) == []
    assert mistakes(OptimizationTable, {"blocks": "0-23", "rank": 64, "weight_decay": 0.0}) == ["groups.0.rank: there is no such key"]


def test_groups_are_told_in_words_by_their_names_or_numbers() -> None:
    groups: list[Group] = [
        LoraGroup(name="deep", blocks="0-23", modality="video", rank=64, alpha=32),
        OptimizationGroup(modules=["ff", "audio_*"], learning_rate=1e-5, weight_decay=0.0),
    ]
    assert list(told(groups)) == [
        ("deep", "rank 64, alpha 32 for blocks 0-23, video"),
        ("group_2", "learning rate 1e-05, weight decay 0 for ff, audio_*"),
    ]


def test_a_group_holds_only_what_it_sets_where_a_run_is_spelled_out() -> None:
    assert plain(LoraGroup(blocks="0-23", rank=64)) == {"blocks": "0-23", "rank": 64}
