from __future__ import annotations

import pytest

from ltxcore.encode.work import Share
from ltxcore.errors import ConfigError


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_are_disjoint_and_leave_nothing_out(size: int) -> None:
    items = list(range(11))
    shares = [Share(rank, size).of(items) for rank in range(size)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_environment_says_which_share_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert Share.of_environment() == Share(0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Share.of_environment() == Share(2, 4)
    assert str(Share(2, 4)) == "process 2 of 4"


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("a", "2"), ("-1", "2")])
def test_an_environment_that_names_no_share_is_refused(monkeypatch: pytest.MonkeyPatch, rank: str, size: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ConfigError) as error:
        Share.of_environment()
    assert str(error.value) == (
        f"environment: RANK={rank} and WORLD_SIZE={size} do not describe a process of a run\n    Let a launcher set them, such as torchrun, or unset both."
    )
