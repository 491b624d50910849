"""Where samples lie by default: no two datasets in one place, and a set that 0.1.0 encoded goes on being used by the dataset that made it."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from helpers.raw_media import dataset_file, encode, sound_file
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.encode import preprocess
from ltxcore.encode.roots import OWNERS, claim, default_root
from ltxcore.encoded.manifest import read_source

SOUNDS = ("a", "b", "c")


def listed(folder: Path, name: str, captions: dict[str, str], **more: Any) -> Path:
    """A dataset file of sounds with these captions."""
    for sound in captions:
        if not (folder / f"{sound}.wav").exists():
            sound_file(folder / f"{sound}.wav", seconds=0.3, hertz=300.0 + 50 * ord(sound[-1]))
    return dataset_file(folder / name, [{"audio": f"{sound}.wav", "caption": caption, **more} for sound, caption in captions.items()])


def of_0_1_0(path: Path, **options: Any) -> Path:
    """Encode a dataset as 0.1.0 did: in `.precomputed`, without a record of whose it is."""
    root = encode(path, path.parent / ".precomputed", **options).root
    assert not (root / OWNERS).exists()
    return root


def test_two_dataset_files_in_one_folder_do_not_write_over_each_other(tmp_path: Path) -> None:
    first = listed(tmp_path, "a.jsonl", dict.fromkeys(SOUNDS, "mine"))
    second = listed(tmp_path, "b.jsonl", dict.fromkeys(SOUNDS, "yours"))
    assert default_root(first) == default_root(second) == tmp_path / ".precomputed"
    assert encode(first).root == tmp_path / ".precomputed"
    assert default_root(second) == tmp_path / ".precomputed-b.jsonl"
    before = {path: path.read_bytes() for path in (tmp_path / ".precomputed").rglob("*.safetensors")}
    assert (encode(second).root, encode(second).done) == (tmp_path / ".precomputed-b.jsonl", 0)
    assert {path: path.read_bytes() for path in before} == before
    assert (encode(first).done, encode(first).root) == (0, tmp_path / ".precomputed")
    listed(tmp_path, "b.jsonl", {"a": "another", "b": "yours", "c": "yours"})
    assert (encode(second).done, encode(first).done) == (1, 0)


def test_the_folder_of_a_renamed_dataset_file_is_used_by_it(tmp_path: Path) -> None:
    first = listed(tmp_path, "a.jsonl", dict.fromkeys(SOUNDS, "mine"))
    encode(first)
    renamed = first.rename(tmp_path / "train.jsonl")
    assert (encode(renamed).root, encode(renamed).done) == (tmp_path / ".precomputed", 0)
    assert json.loads((tmp_path / ".precomputed" / OWNERS).read_text()) == {"datasets": ["train.jsonl"]}
    assert default_root(listed(tmp_path, "a.jsonl", dict.fromkeys(SOUNDS, "new"))) == tmp_path / ".precomputed-a.jsonl"


def test_a_set_of_0_1_0_goes_on_being_used_by_the_only_dataset_file(tmp_path: Path) -> None:
    path = listed(tmp_path, "a.jsonl", dict.fromkeys(SOUNDS, "mine"))
    root = of_0_1_0(path)
    listed(tmp_path, "a.jsonl", {**dict.fromkeys(SOUNDS, "all new"), "d": "more"})
    assert default_root(path) == root
    assert (encode(path).root, read_source(root, "conditions").keys()) == (root, {"a", "b", "c", "d"})


def test_of_several_the_one_whose_captions_a_set_of_0_1_0_has_goes_on_with_it_whoever_comes_first(tmp_path: Path) -> None:
    maker = listed(tmp_path, "z.jsonl", dict.fromkeys(SOUNDS, "mine"))
    options = PreprocessingTable(lora_trigger="TRIG")
    root = of_0_1_0(maker, lora_trigger="TRIG")
    other = listed(tmp_path, "a.jsonl", dict.fromkeys(SOUNDS, "yours"))
    (tmp_path / "config.json").write_text("{}")
    assert (default_root(other, options), default_root(maker, options)) == (tmp_path / ".precomputed-a.jsonl", root)
    assert encode(other, lora_trigger="TRIG").root == tmp_path / ".precomputed-a.jsonl"
    assert (encode(maker, lora_trigger="TRIG").done, (root / OWNERS).is_file()) == (0, True)
    assert default_root(other, options) == tmp_path / ".precomputed-a.jsonl"


def test_several_that_made_a_set_of_0_1_0_together_go_on_with_it_together(tmp_path: Path) -> None:
    train = listed(tmp_path, "train.jsonl", dict.fromkeys(SOUNDS, "train"))
    held = listed(tmp_path, "held.jsonl", {"x": "held"})
    root = of_0_1_0(train)
    encode(held, root)
    assert [(encode(path).root, encode(path).done) for path in (held, train)] == [(root, 0)] * 2
    assert json.loads((root / OWNERS).read_text()) == {"datasets": ["held.jsonl", "train.jsonl"]}
    new = listed(tmp_path, "new.jsonl", {"x": "held"})
    assert default_root(new) == tmp_path / ".precomputed-new.jsonl"


def test_two_that_begin_at_once_end_in_two_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [listed(tmp_path, name, dict.fromkeys(SOUNDS, name)) for name in ("a.jsonl", "b.jsonl")]
    gate = threading.Barrier(2)

    def both_looked(root: Path, *others: Any) -> Path:
        gate.wait()
        return claim(root, *others)

    monkeypatch.setattr(preprocess, "claim", both_looked)
    roots: dict[str, Path] = {}
    threads = [threading.Thread(target=lambda path=path: roots.update({path.name: encode(path).root})) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(roots.values())) == 2
    assert tmp_path / ".precomputed" in roots.values()
    monkeypatch.undo()
    assert [(encode(path).root, encode(path).done) for path in paths] == [(roots[path.name], 0) for path in paths]


def test_a_torn_record_is_written_anew(tmp_path: Path) -> None:
    path = listed(tmp_path, "a.jsonl", {"a": "one"})
    root = encode(path).root
    (root / OWNERS).write_text('{"datasets": [')
    assert encode(path).root == root
    assert json.loads((root / OWNERS).read_text()) == {"datasets": ["a.jsonl"]}


def test_a_place_that_the_user_names_is_used_as_it_is(tmp_path: Path) -> None:
    paths = [listed(tmp_path, name, {"a": name}) for name in ("a.jsonl", "b.jsonl")]
    assert {encode(path, tmp_path / "root").root for path in paths} == {tmp_path / "root"}
    assert not (tmp_path / "root" / OWNERS).exists()


def test_a_long_name_of_a_dataset_file_is_shortened(tmp_path: Path) -> None:
    paths = [listed(tmp_path, f"{end}{'ä' * 122}.jsonl", {"a": end}) for end in "abc"]
    roots = [encode(path).root for path in paths]
    assert len(set(roots)) == 3
    assert all(len(root.name.encode()) < 60 for root in roots)


def test_the_samples_of_a_folder_lie_beside_it_or_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.clips").mkdir()
    assert default_root(tmp_path / "my.clips") == default_root(tmp_path / "x/../my.clips/") == tmp_path / "my.clips.precomputed"
    monkeypatch.chdir(tmp_path / "my.clips")
    assert default_root(Path()) == tmp_path / "my.clips.precomputed"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    cached = default_root(tmp_path / "my.clips")
    assert cached.parent == tmp_path / "cache/ltx/precomputed"
    assert cached.name.startswith("my.clips-")


def test_dataset_files_that_can_only_be_encoded_in_the_cache_do_not_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [listed(tmp_path / "clips", name, {"a": name}) for name in ("a.jsonl", "b.jsonl")]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("os.access", lambda path, mode: mode == os.R_OK or str(path).startswith(str(tmp_path / "cache")))
    roots = [encode(path).root for path in paths]
    assert len(set(roots)) == 2
    assert [root.parent for root in roots] == [tmp_path / "cache/ltx/precomputed"] * 2
    shutil.rmtree(tmp_path / "cache")
