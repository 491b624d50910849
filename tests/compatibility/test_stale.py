"""Samples of 0.1.0 whose files are read differently now, and only those, are named with the reason and encoded again; a run under way keeps them."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from compatibility.test_runs import losses, same
from helpers.launches import finish, start
from helpers.older_runs import brought, ltx
from ltxcore.encode.outdated import CORRECTIONS
from ltxcore.encoded.manifest import read_source

ALL = {"hlg": "hdr", "hole": "sound_in_time", "lying": "turned", "see_through": "alpha", "wide_pixels": "square_pixels"}
"""By sample of `otherwise`, what is set right in reading its file."""

REASONS = {name: reason for name, reason in ALL.items() if reason in CORRECTIONS}
HEARD = REASONS.keys() & {"hole", "wide_pixels", "hlg"}
"""Those that have sound."""

SIZES = "64x64x9;128x64x9;96x64x1;64x96x1;64x64x1"
PREPROCESS = ("preprocess", "otherwise/clips.jsonl", "--model-path", "tiny", "--resolution-buckets", SIZES, "--no-progress")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return brought(tmp_path / "films")


def fingerprints(folder: Path) -> dict[str, dict[str, str]]:
    root = folder / "otherwise/.precomputed"
    return {
        source: {name: entry.fingerprint for name, entry in read_source(root, source).items()} for source in ("latents", "audio_latents")
    }


def reason(sample: str) -> str:
    return CORRECTIONS[REASONS[sample]]


def told(said: str, how: str) -> dict[str, str]:
    """The samples of lines such as "1 sample HOW, although REASON now: lying", with the reason."""
    lines = re.findall(rf"^\d+ samples? {how}, (?:since|although) (.+) now: ([^;\n]+)", said, re.MULTILINE)
    return {name: why for why, names in lines for name in names.split(", ")}


def reasons(names: Iterable[str]) -> dict[str, str]:
    return {name: reason(name) for name in names}


@pytest.mark.parametrize("name", ALL)
def test_each_of_them_is_read_otherwise_now(name: str) -> None:
    assert ALL[name] in CORRECTIONS


def test_the_doctor_names_them_with_the_reason_and_no_others(folder: Path) -> None:
    said = json.loads(ltx(folder, "doctor", "otherwise/clips.jsonl", "--resolution-buckets", SIZES, "--on-error", "skip", "--json"))
    stale = [finding["what"] for finding in said["findings"] if finding["check"] == "stale"]
    assert sorted(stale) == [
        f'"{name}" was encoded by an older version, which read its files differently: now, {reason(name)}' for name in sorted(REASONS)
    ]


def test_preprocessing_encodes_them_anew_and_no_others_and_says_why(folder: Path) -> None:
    before = fingerprints(folder)
    said = ltx(folder, *PREPROCESS, "--on-error", "skip")
    assert told(said, "encoded again") == reasons(REASONS)
    after = fingerprints(folder)
    assert {name for name in before["latents"] if before["latents"][name] != after["latents"][name]} == REASONS.keys() - {"hole"}
    changed = {name for name in before["audio_latents"] if before["audio_latents"][name] != after["audio_latents"][name]}
    assert changed == REASONS.keys() & {"hole"}
    assert told(ltx(folder, *PREPROCESS, "--on-error", "skip"), "encoded again") == {}


def test_what_is_turned_or_stretched_gets_another_size(folder: Path) -> None:
    ltx(folder, *PREPROCESS, "--on-error", "skip")
    shapes = {
        path.stem: tuple(load_file(path)["latents"].shape[1:]) for path in (folder / "otherwise/.precomputed/latents").glob("*.safetensors")
    }
    images = {"lying": (1, 3, 2) if "lying" in REASONS else (1, 2, 3), "upright": (1, 2, 3), "see_through": (1, 2, 3)}
    clips = {
        "wide_pixels": (2, 2, 4) if "wide_pixels" in REASONS else (2, 2, 2),
        **dict.fromkeys(("as_ever_1", "as_ever_2", "hlg", "hole"), (2, 2, 2)),
    }
    assert shapes == images | clips


@pytest.mark.parametrize(("name", "kept"), [("pictures", REASONS.keys() - {"hole"}), ("sounds", HEARD)])
def test_a_run_under_way_keeps_them_says_so_and_becomes_what_it_would_have_become(folder: Path, name: str, kept: set[str]) -> None:
    before = fingerprints(folder)
    checked = ltx(folder, "check", f"{name}.toml")
    assert f"The unfinished run in {folder}/out/{name} resumes after step 2.\n" in checked
    assert "anew" not in checked
    said = ltx(folder, "run", f"{name}.toml")
    assert told(said, "kept as they were when this run began") == reasons(kept)
    assert told(said, "encoded again") == {}
    assert "resuming after step 2" in said
    assert fingerprints(folder) == before
    same(folder / f"out/{name}/lora.safetensors", folder / f"weights/{name}.safetensors")


def test_a_new_run_encodes_them_anew(folder: Path) -> None:
    said = ltx(folder, "run", "pictures.toml", "--set", f"output_dir={folder / 'out/new'}", "--set", "optimization.steps=1")
    assert told(said, "encoded again") == reasons(REASONS.keys() - {"hole"})


def test_a_run_under_way_that_is_allowed_changes_encodes_them_anew_and_says_that_its_data_are_others(folder: Path) -> None:
    said = ltx(folder, "run", "sounds.toml", "--allow-changes")
    assert told(said, "encoded again") == reasons(REASONS)  # of pictures alone too, for runs that read no sound
    assert "the data have changed since this run began (some samples were encoded again)" in said
    assert losses(folder / "out/sounds") == [1, 2, 3, 4]


def test_a_run_under_way_goes_on_with_what_was_encoded_anew_meanwhile_and_says_so(folder: Path) -> None:
    ltx(folder, *PREPROCESS, "--on-error", "skip")
    said = ltx(folder, "run", "pictures.toml")
    assert "the data have changed since this run began" in said
    assert told(said, "kept as they were when this run began") == {}
    assert "resuming after step 2" in said


def test_a_run_under_way_leaves_out_rows_that_it_did_not_begin_with(folder: Path) -> None:
    (folder / "otherwise/another.mp4").write_bytes((folder / "otherwise/as_ever_1.mp4").read_bytes())
    with (folder / "otherwise/clips.jsonl").open("a") as file:
        file.write(json.dumps({"video": "another.mp4", "caption": "another"}) + "\n")
    assert "1 row is left out, because this run began with the other 8;" in ltx(folder, "check", "pictures.toml")
    said = ltx(folder, "run", "pictures.toml")
    assert (
        "1 row is left out, because this run began with the other 8; `ltx preprocess`, or --allow-changes, adds those that can be read"
        in said
    )
    same(folder / "out/pictures/lora.safetensors", folder / "weights/pictures.safetensors")


def test_what_the_user_changed_in_a_run_under_way_is_encoded_anew_and_the_rest_stays(folder: Path) -> None:
    rows = (folder / "otherwise/clips.jsonl").read_text().splitlines()
    (folder / "otherwise/clips.jsonl").write_text("\n".join(rows[1:]).replace("of upright", "something else"))
    said = ltx(folder, "run", "pictures.toml")
    assert "7 samples in" in said
    assert "1 file encoded now" in said
    assert told(said, "kept as they were when this run began") == reasons(REASONS.keys() - {"hole"})
    assert "(then 8 samples to train on and 0 held out, now 7 and 0)" in said
    assert "resuming after step 2" in said


@pytest.mark.slow
def test_two_processes_keep_them_and_become_what_0_1_0_would_have_become(folder: Path) -> None:
    said = launched(folder)
    assert told(said, "kept as they were when this run began") == reasons(HEARD)
    assert said.count("resuming after step 2") == 1
    assert losses(folder / "out/two_processes") == [1, 2, 3, 4]
    same(folder / "out/two_processes/lora.safetensors", folder / "weights/two_processes.safetensors")


@pytest.mark.slow
def test_two_processes_encode_them_anew_for_a_new_run_and_say_it_once(folder: Path) -> None:
    said = launched(folder, "--set", f"output_dir={folder / 'out/new'}")
    assert told(said, "encoded again") == reasons(REASONS)  # of pictures alone too, for runs that read no sound
    assert "Done, 4 steps." in said


@pytest.mark.slow
def test_one_process_goes_on_with_a_run_of_two(folder: Path) -> None:
    said = ltx(folder, "run", "two_processes.toml", "--set", "optimization.gradient_accumulation_steps=2")
    assert told(said, "kept as they were when this run began") == reasons(HEARD)
    same(folder / "out/two_processes/lora.safetensors", folder / "weights/two_processes.safetensors")


def launched(folder: Path, *settings: str) -> str:
    command = [sys.executable, "-m", "ltxcore", "launch", "--num-gpus", "2", "two_processes.toml", *settings]
    with contextlib.chdir(folder):
        process = start(command)
    said = finish(process, limit=600)
    assert process.returncode == 0, said
    return said
