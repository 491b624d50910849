"""Encoded samples as a strategy reads them: of a folder that no run file is named for, all of them."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch

from ltxcore.encoded.manifest import append_entry
from ltxcore.encoded.store import write_sample
from ltxcore.encoded.strategy_data import StrategyData, whole_set
from ltxcore.errors import DataError
from ltxcore.protocols import Entry

CLIP = torch.zeros(4, 3, 2, 2)


def put(root: Path, folder: str, name: str = "a", **tensors: torch.Tensor) -> None:
    entry = write_sample(root, folder, name, tensors, Entry((), rate=8.0, origin=name))
    append_entry(root, folder, name, entry)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Clips with masks."""
    put(tmp_path / ".precomputed", "latents", latents=CLIP)
    put(tmp_path / ".precomputed", "video_masks", mask=torch.ones(3, 2, 2))
    return tmp_path / ".precomputed"


def files(found: StrategyData) -> dict[tuple[str, str], Entry]:
    entries = found.manifest()[0].entries
    return {(found.sources[role].folder, name): entry for role, held in entries.items() for name, entry in held.items()}


def test_a_folder_is_read_whole_and_the_folder_of_its_dataset_means_the_same(root: Path) -> None:
    for named in (root, root.parent):
        found = whole_set(named)
        assert found.root == root
        assert {role: source.folder for role, source in found.sources.items() if source.kind != "text"} == {
            "video": "latents",
            "video.cond0.mask": "video_masks",
        }


def test_folders_that_go_with_no_latents_are_named(root: Path) -> None:
    put(root, "audio_masks", mask=torch.ones(5))
    assert whole_set(root).unread == ("audio_masks",)


def test_a_folder_without_latents_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "video_masks", mask=torch.ones(3, 2, 2))
    with pytest.raises(DataError, match="this folder holds neither latents nor media"):
        whole_set(tmp_path)


def test_a_changed_byte_is_found_without_reading_values_and_a_changed_shape_by_reading(root: Path) -> None:
    found = whole_set(root)
    known = {key: entry for key, entry in files(found).items() if key[0] == "latents"}
    assert (list(found.damaged(known.items(), lambda: None)), list(found.wrong(known.items(), lambda: None))) == ([], [])
    said = {key: attrs.evolve(entry, shape=(4, 3, 2, 9)) for key, entry in known.items()}
    (problem,) = found.wrong(said.items(), lambda: None)
    assert (problem.what, problem.where) == (
        "has the shape [4, 3, 2, 2], but the manifest says [4, 3, 2, 9]",
        str(found.path("latents", "a")),
    )
    path = found.path("latents", "a")
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    (damaged,), (read,) = found.damaged(known.items(), lambda: None), found.wrong(known.items(), lambda: None)
    assert damaged.where == read.where == str(path)


def test_latents_end_where_their_last_cell_does_and_masks_nowhere(root: Path) -> None:
    found, entries = whole_set(root), files(whole_set(root))
    assert found.seconds(entries["latents", "a"]) == pytest.approx(17 / 8)  # 3 latent frames are 17 frames, 8 a second
    assert found.seconds(entries["video_masks", "a"]) is None
    assert found.seconds(attrs.evolve(entries["latents", "a"], rate=None)) is None
