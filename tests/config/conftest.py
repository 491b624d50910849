"""Run files in a folder of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.run_files import MINIMAL, Load, Mistakes
from ltxcore.config.load import LoadedRun, load_run
from ltxcore.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which is not the run file's folder."""
    home = tmp_path / "work"
    home.mkdir()
    monkeypatch.chdir(home)
    runs = tmp_path / "runs"
    runs.mkdir()
    return runs


@pytest.fixture
def load(folder: Path) -> Load:
    """Write a run file and load it."""

    def write_and_load(text: str, *settings: str) -> LoadedRun:
        path = folder / "run.toml"
        path.write_text(text)
        return load_run(path, settings)

    return write_and_load


@pytest.fixture
def mistakes(folder: Path, load: Load) -> Mistakes:
    """The whole message about a run file that is wrong, with the folder cut out of it."""

    def message(text: str, *settings: str) -> str:
        with pytest.raises(ConfigError) as caught:
            load(text, *settings)
        return str(caught.value).replace(f"{folder}/", "")

    return message


@pytest.fixture
def minimal() -> str:
    """A run file that is valid."""
    return MINIMAL


@pytest.fixture
def inputs(folder: Path) -> Path:
    """The folder, with every file that a random run file names."""
    for name in ("base.safetensors", "set.jsonl", "clip.mp4", "sound.wav", "ds.json"):
        (folder / name).touch()
    (folder / "extra.py").write_text("from ltxcore.api import hookimpl\n\n\n@hookimpl\ndef ltx_trackers():\n    return {}\n")
    return folder
