"""The manifests of several processes become one, in the order of the samples, and say what they said before."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import attrs
import torch

from ltxcore.encoded.listing import list_folder
from ltxcore.encoded.manifest import append_entry, manifest_name, remove_sample
from ltxcore.encoded.manifest_lines import read_lines
from ltxcore.encoded.merge_manifests import merge_manifests
from ltxcore.encoded.store import write_sample
from ltxcore.protocols import Entry
from ltxcore.writer import writing


def sample(root: Path, name: str, number: int, frames: int = 1, after: float = 0.0) -> None:
    """Write latents as the process with this number."""
    entry = write_sample(root, "latents", name, {"latents": torch.zeros(4, frames, 2, 2)}, Entry((), fingerprint=str(frames)))
    append_entry(root, "latents", name, entry, number, after)


def manifests(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "latents").glob("manifest*"))


def test_manifests_become_one_in_the_order_of_the_samples(tmp_path: Path) -> None:
    for number, name in enumerate("dacb"):
        sample(tmp_path, name, number % 3)
    before = list_folder(tmp_path / "latents")
    merge_manifests(tmp_path, ["latents", "audio_latents"], 2)
    assert manifests(tmp_path) == [manifest_name(0)]
    assert [line.name for line in read_lines(tmp_path / "latents" / manifest_name(0))] == list("abcd")
    assert list_folder(tmp_path / "latents") == attrs.evolve(before, latest=before.latest)
    assert not list(tmp_path.glob(".writer*"))


def test_a_manifest_in_order_stays_as_it_is(tmp_path: Path) -> None:
    for name in "ab":
        sample(tmp_path, name, 0)
    path = tmp_path / "latents" / manifest_name(0)
    inode = path.stat().st_ino
    merge_manifests(tmp_path, ["latents"], 0)
    assert path.stat().st_ino == inode
    sample(tmp_path, "a", 0, frames=2)
    merge_manifests(tmp_path, ["latents"], 0)
    assert [line.entry.shape for line in read_lines(path)] == [(4, 2, 2, 2), (4, 1, 2, 2)]


def test_of_several_lines_the_one_that_fits_the_file_stays_whatever_its_time(tmp_path: Path) -> None:
    sample(tmp_path, "a", 0, frames=1, after=time.time() + 86_400)  # the clock of this process is a day ahead
    sample(tmp_path, "a", 1, frames=2)
    sample(tmp_path, "b", 1)
    remove_sample(tmp_path, "latents", "b", 0, after=time.time() + 1)
    merge_manifests(tmp_path, ["latents"], 0)
    assert [(line.name, line.entry.shape) for line in read_lines(tmp_path / "latents" / manifest_name(0))] == [("a", (4, 2, 2, 2))]


def test_manifests_stay_while_another_process_writes_one(tmp_path: Path) -> None:
    for number, name in enumerate("ba"):
        sample(tmp_path, name, number)
    with writing(tmp_path, rank=1):
        merge_manifests(tmp_path, ["latents"], 0)
        assert manifests(tmp_path) == [manifest_name(0), manifest_name(1)]


def test_a_folder_is_listed_while_its_manifests_are_merged(tmp_path: Path) -> None:
    names = [f"{number:02}" for number in range(40)]
    done = threading.Event()

    def merge() -> None:
        for number in range(20):
            sample(tmp_path, names[number % 40], number % 3)
            merge_manifests(tmp_path, ["latents"], 0)
        done.set()

    for name in names:
        sample(tmp_path, name, 0)
    thread = threading.Thread(target=merge)
    thread.start()
    while not done.is_set():
        assert [*list_folder(tmp_path / "latents", remember=False).entries] == names
    thread.join()
