"""Model files are written once and only read."""

import pytest

from helpers.official_models import write_folder, write_split, write_unified


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A small model by generation and layout: unified files of 2.0 and 2.3, split files of 2.5, folders of 2.0 and 2.3."""
    root = tmp_path_factory.mktemp("models")
    split = write_split(root / "split")
    return {
        "2.0": (write_unified(root / "ltx-2.safetensors", "2.0"), None, None),
        "2.3": (write_unified(root / "ltx-2.3.safetensors", "2.3"), None, None),
        "2.5": (split["model"], split["video"], split["audio"]),
        "folder 2.0": (write_folder(root / "folder-2", "2.0"), None, None),
        "folder 2.3": (write_folder(root / "folder-2.3", "2.3"), None, None),
    }
