"""`ltx check` finds what is wrong in every part of a run at once, whatever is wrong with the others; and a run file that it calls in order runs."""

from __future__ import annotations

from pathlib import Path

from cli.run_faults import FAULTS, assert_told_once, messages, with_faults
from cli.test_cli_check import check
from helpers.raw_media import clip_file, sound_file


def test_a_fault_in_every_part_is_found_at_once_and_each_is_told_once(folder: Path) -> None:
    path, told = with_faults(folder, FAULTS)
    before = sorted(folder.rglob("*"))
    status, out, err = check(str(path))
    found = messages(err, folder)
    assert (status, out) == (2, "")
    assert_told_once(found, told)
    assert sorted(folder.rglob("*")) == before


def test_a_model_that_cannot_be_read_hides_nothing_of_the_other_parts(folder: Path) -> None:
    parts = {"output folder", "schedule", "samples", "rows", "captions", "media", "buckets", "encoded set", "held-out rows"}
    path, told = with_faults(folder, [fault for fault in FAULTS if fault.part in parts])
    path.write_text(path.read_text().replace('"tiny"', '"cut.safetensors"'))
    (folder / "cut.safetensors").write_bytes(b"cut")
    found = messages(check(str(path))[2], folder)
    assert sum(line.startswith("TMP/cut.safetensors: ") for line in found) == 1
    assert [start for start in told if not any(line.startswith(start) for line in found)] == []


def test_a_run_file_that_is_in_order_runs(folder: Path) -> None:
    from click.testing import CliRunner

    from ltxcore.cli.main import main

    path, _ = with_faults(folder, [])
    assert check(str(path))[0] == 0
    assert not (folder / "run").exists()
    done = CliRunner().invoke(main, ["run", str(path)])
    assert done.exit_code == 0, done.output
    assert check(str(path))[2].startswith(f"{path}:1: output_dir: {folder}/run holds a finished run")
    status, out, _ = check(str(path), "--set", "output_dir=other")
    assert (status, "  samples     2 to train on, 0 held out\n" in out) == (0, True)


def test_a_run_finds_what_is_wrong_with_its_held_out_rows_and_its_codecs_before_it_encodes_anything(folder: Path) -> None:
    from click.testing import CliRunner

    from ltxcore.cli.main import main

    path, (told,) = with_faults(folder, [FAULTS[-1]])
    done = CliRunner().invoke(main, ["-q", "run", str(path)])
    assert (done.exit_code, messages(done.stderr, folder)) == (2, [told])
    assert not (folder / ".precomputed").exists()


def encoded(folder: Path) -> Path:
    """The good run, with its dataset encoded."""
    from click.testing import CliRunner

    from ltxcore.cli.main import main

    path, _ = with_faults(folder, [])
    done = CliRunner().invoke(main, ["preprocess", "clips.jsonl", "--model-path", "tiny", "--skip-audio"])
    assert done.exit_code == 0, done.output
    return path


def test_samples_that_the_run_encodes_anew_by_itself_are_told_and_not_refused(folder: Path) -> None:
    path = encoded(folder)
    settings = ("--set", "preprocessing.skip_audio=true")
    assert "  samples     2 to train on, 0 held out\n" in check(str(path), *settings)[1]

    (folder / "clips.jsonl").write_text('{"video": "a.mp4", "caption": "another"}\n{"video": "d.mp4", "caption": "four"}\n')
    out = check(str(path), *settings)[1]
    assert "  samples     2 to train on, 0 held out; 1 are encoded, and the first run encodes the other 1\n" in out
    assert "/clips.jsonl: the first run encodes 1 of 2 samples again, since their captions have changed.\n" in out

    out = check(str(path), *settings, "--set", "preprocessing.resolution_buckets=64x64x9")[1]
    assert "encodes 2 of 2 samples again, since their files or preprocessing options have changed.\n" in out

    sound_file(folder / "sound.wav")  # a new row
    clip_file(folder / "e.mp4", frames=17)
    with (folder / "clips.jsonl").open("a") as file:
        file.write('{"video": "e.mp4", "caption": "five"}\n')
    out = check(str(path), *settings)[1]
    assert "  samples     3 to train on, 0 held out; 1 are encoded, and the first run encodes the other 2\n" in out


def test_another_model_file_makes_the_run_encode_anew_and_is_no_mistake(folder: Path) -> None:
    path = encoded(folder)
    latents = folder / ".precomputed" / "latents"
    for manifest in latents.glob("manifest*.jsonl"):
        manifest.write_text(manifest.read_text().replace('"encoder": "', '"encoder": "other-'))
    status, out, err = check(str(path), "--set", "data.preprocessed_data_root=.precomputed", "--set", "preprocessing.skip_audio=true")
    assert (status, err) == (0, "")
    assert "  samples     2 to train on, 0 held out; the first run encodes all 2 again\n" in out
    assert "encodes 2 of 2 samples again, since the model or its encoder options have changed" in out
