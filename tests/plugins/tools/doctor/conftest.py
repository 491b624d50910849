from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from helpers.raw_media import encode
from plugins.tools.doctor.healthy import healthy_set


@pytest.fixture(scope="session")
def _raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return healthy_set(tmp_path_factory.mktemp("raw")).parent


@pytest.fixture(scope="session")
def _encoded(tmp_path_factory: pytest.TempPathFactory, _raw: Path) -> Path:
    folder = tmp_path_factory.mktemp("encoded") / "set"
    shutil.copytree(_raw, folder)
    encode(folder / "set.jsonl")
    return folder


@pytest.fixture
def raw(tmp_path: Path, _raw: Path) -> Path:
    """The folder of a healthy set of raw media, `set.jsonl`, for one test to plant a fault in."""
    return Path(shutil.copytree(_raw, tmp_path / "set"))


@pytest.fixture
def encoded(tmp_path: Path, _encoded: Path) -> Path:
    """The same with its samples in `.precomputed`."""
    return Path(shutil.copytree(_encoded, tmp_path / "set"))
