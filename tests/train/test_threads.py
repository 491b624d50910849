"""How many threads a model computes with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from ltxcore.train.threads import SMALL, few_threads

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_small_model_has_one_thread_and_the_others_come_back() -> None:
    with few_threads([(2, 2), (2,)], CPU):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_a_large_model_keeps_all_of_them() -> None:
    with few_threads([(SMALL // 100, 100), (1,)], CPU):
        assert torch.get_num_threads() == 2


def test_a_run_on_a_gpu_or_where_the_user_has_said_how_many_keeps_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    with few_threads([(2, 2), (2,)], torch.device("cuda")):
        assert torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with few_threads([(2, 2), (2,)], CPU):
        assert torch.get_num_threads() == 2
