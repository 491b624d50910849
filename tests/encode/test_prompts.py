"""Texts that belong to a set are encoded once, kept beside it, and encoded again when they or their encoder change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest
import torch
from torch import Tensor

from helpers.training_runs import sound_set
from ltxcore.encode.prompts import FOLDER, encode_prompts, missing_prompts, read_prompts
from ltxcore.encoded.folders import list_encoded
from ltxcore.errors import DataError


@attrs.define
class Counting:
    """A text encoder whose features are the number of letters, and which notes what it was asked for."""

    fingerprint: str = "counting"
    length: int = 6
    asked: list[str] = attrs.field(factory=list)

    def encode(self, captions: Sequence[str]) -> list[dict[str, Tensor]]:
        self.asked += captions
        return [{"video": torch.full((len(each.split()) + 1, 4), float(len(each)))} for each in captions]

    def load(self) -> Counting:
        return self


def test_each_text_is_encoded_once_and_the_empty_caption_is_one(tmp_path: Path) -> None:
    encoder = Counting()
    assert encode_prompts(tmp_path, ["a dog", "", "a dog"], "counting", encoder.load) == ["a dog", ""]
    assert encode_prompts(tmp_path, ["", "a dog"], "counting+8bit", encoder.load) == []
    assert encoder.asked == ["a dog", ""]
    found = read_prompts(tmp_path, ["", "a dog"], "counting")
    assert found[""].mask.tolist() == [[0, 0, 0, 0, 0, 1]]
    assert found["a dog"].features["video"][0, :, 0].tolist() == [0, 0, 0, 5, 5, 5]
    assert not found["a dog"].is_connected


def test_another_encoder_and_a_damaged_file_are_encoded_again(tmp_path: Path) -> None:
    encoder = Counting()
    encode_prompts(tmp_path, ["a dog"], "counting", encoder.load)
    with pytest.raises(DataError, match='the prompt "a dog" is not encoded'):
        read_prompts(tmp_path, ["a dog"], "another")
    assert encode_prompts(tmp_path, ["a dog"], "another", Counting("another").load) == ["a dog"]
    for path in (tmp_path / FOLDER).iterdir():
        path.write_bytes(path.read_bytes()[:40])
    assert missing_prompts(tmp_path, ["a dog", "", "a dog"], "counting") == ["a dog", ""]
    assert encode_prompts(tmp_path, ["a dog"], "counting", encoder.load) == ["a dog"]
    assert read_prompts(tmp_path, ["a dog"], "counting")["a dog"].mask.sum() == 3


def test_the_texts_are_no_source_of_samples(tmp_path: Path) -> None:
    sound_set(tmp_path, 2)
    before = [folder.name for folder in list_encoded(tmp_path).folders]
    encode_prompts(tmp_path, ["a dog"], "counting", Counting().load)
    after = list_encoded(tmp_path)
    assert ([folder.name for folder in after.folders], after.problems) == (before, ())
