"""The tiny text encoder."""

import hashlib
import subprocess
import sys

import pytest
import torch

from ltxcore.codecs.tiny_text import TinyTextEncoder

ENCODER = TinyTextEncoder()


def video(caption: str) -> torch.Tensor:
    return ENCODER.encode([caption])[0]["video"]


def test_there_is_one_feature_vector_a_word_and_modality() -> None:
    features = ENCODER.encode(["a red disc", "bounces"])
    assert [{name: tensor.shape for name, tensor in row.items()} for row in features] == [
        {"video": (3, 128), "audio": (3, 128)},
        {"video": (1, 128), "audio": (1, 128)},
    ]
    assert features[0]["video"].dtype == torch.float32
    assert torch.equal(features[0]["video"], features[0]["audio"])
    assert ENCODER.length == 32


@pytest.mark.parametrize("caption", ["", "   ", "...!"])
def test_a_caption_without_words_is_legal(caption: str) -> None:
    assert video(caption).shape == (0, 128)


def test_of_a_long_caption_the_first_32_words_count() -> None:
    words = [f"word{index}" for index in range(40)]
    assert torch.equal(video(" ".join(words)), video(" ".join(words[:32])))
    assert video(" ".join(words)).shape == (32, 128)


def test_letter_case_and_punctuation_do_not_count() -> None:
    assert torch.equal(video("A Red disc, it's STRASSE."), video("a red disc it's straße"))


def test_words_of_every_script_are_words() -> None:
    assert video("红色 圆盘 прыгает").shape == (3, 128)


def test_the_same_word_differs_by_its_place_and_order_counts() -> None:
    twice = video("red red")
    assert not torch.equal(twice[0], twice[1])
    assert (twice[0] - twice[1]).norm() < (video("red")[0] - video("blue")[0]).norm()
    assert not torch.equal(video("red disc"), video("disc red"))


def test_a_word_s_vector_is_its_hash_as_signs() -> None:
    digest = hashlib.sha256(b"red").digest()[:16]
    bits = int.from_bytes(digest, "big")
    signs = torch.tensor([1.0 if bits >> place & 1 else -1.0 for place in range(128)])
    place_0 = torch.cat([torch.zeros(64), 0.5 * torch.ones(64)])  # sines and cosines of 0
    torch.testing.assert_close(video("red")[0], signs + place_0)


def test_different_words_are_nearly_orthogonal() -> None:
    vectors = torch.stack([video(f"word{index}")[0] for index in range(50)])
    normed = torch.nn.functional.normalize(vectors - 0.25, dim=1)
    cosines = normed @ normed.T - torch.eye(50)
    assert cosines.abs().max() < 0.5


def test_another_process_gives_the_same_features() -> None:
    code = "from ltxcore.codecs.tiny_text import TinyTextEncoder as T; print(T().encode(['a red disc'])[0]['video'].sum(0)[:8].tolist())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}).stdout
    assert found.strip() == str(video("a red disc").sum(0)[:8].tolist())
