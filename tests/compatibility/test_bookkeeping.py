"""A run's folder with a file of its own books broken: `ltx check`, `ltx run`, `ltx report`, `ltx publish` say which, or do without it; never a traceback."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.older_runs import brought, ltx
from helpers.sampling import sampled
from ltxcore.config.load import LoadedRun, load_run
from ltxcore.errors import CheckpointError, ConfigError, LtxError
from ltxcore.runs import checkpoint
from ltxcore.runs.resume import begun
from ltxcore.runs.run_folder import RunFolder, check_free
from ltxcore.runs.run_plan import draft
from ltxcore.train.start_run import run
from ltxcore.writer import writing
from ltxplugins.tools.publish.files import upload_of
from ltxplugins.tools.report.write import write_report

NEWEST = "checkpoints/step_000002"
FILES = (
    "run.json",
    "run.toml",
    "metrics.jsonl",
    f"{NEWEST}/manifest.json",
    f"{NEWEST}/state.json",
    f"{NEWEST}/state.safetensors",
    "checkpoints",
)


def folder_there(path: Path) -> None:
    gone(path)
    path.mkdir()


def gone(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def content(data: bytes) -> Callable[[Path], None]:
    def written(path: Path) -> None:
        gone(path)
        path.write_bytes(data)

    return written


def torn(path: Path) -> None:
    if path.is_file():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def pipe_loop(path: Path) -> None:
    gone(path)
    path.symlink_to(path)


WAYS: dict[str, Callable[[Path], None]] = {
    "empty": content(b""),
    "half": torn,
    "gone": gone,
    "a folder": folder_there,
    "binary": content(bytes(range(256)) * 4),
    "not UTF-8": content(b"\xff\xfe\x00"),
    "a list": content(b"[]"),
    "null": content(b"null"),
    "a table of nothing": content(b"{}"),
    "other TOML": content(b"data = 3\noptimization = 4\nengine = []\n"),
    "nested": content(b"[" * 5000),
    "a long number": content(b'{"step": ' + b"9" * 5000 + b', "status": "running", "held_out": []}'),
    "a link to itself": pipe_loop,
}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return brought(tmp_path_factory.mktemp("films") / "films")


@pytest.fixture
def out(films: Path) -> Path:
    """The unfinished run, as it was."""
    there, kept = films / "out" / "pictures", films / "kept"
    if not kept.exists():
        shutil.copytree(there, kept)
    if there.exists():
        shutil.rmtree(there)
    shutil.copytree(kept, there)
    return there


@pytest.fixture(scope="module")
def loaded(films: Path) -> LoadedRun:
    return load_run(films / "pictures.toml", [f"output_dir={films / 'out' / 'pictures'}"])


def look(loaded: LoadedRun, out: Path) -> list[str]:
    """What each command says that reads the folder, up to where a run begins to write; what is no LtxError gets through."""
    said = []

    def begins() -> None:
        folder = RunFolder(out)
        there = begun(loaded, folder.run_file, None)
        check_free(folder, there.loaded.resolved(), there.saved, f"{out}", False, broken=there.broken)
        if (saved := checkpoint.newest(folder.checkpoints)) is not None:
            checkpoint.check(saved)

    for command in (begins, lambda: write_report(out), lambda: upload_of(out, "me/it")):
        try:
            command()
        except LtxError as error:
            said.append(str(error))
    return said


@pytest.mark.parametrize(("file", "way"), sampled([(file, way) for file in FILES for way in WAYS], 19, lambda case: {*case}))
def test_a_broken_file_is_said_or_done_without(loaded: LoadedRun, out: Path, file: str, way: str) -> None:
    WAYS[way](out / file)
    said = look(loaded, out)
    wrong = [text for text in said if "this run has no weights yet" not in text]
    for text in wrong:
        assert "\n    " in text, f"without a remedy: {text}"
        assert str(out) in text, text
    harmless = file == "metrics.jsonl" or way in ("gone", "a folder", "a link to itself")
    assert wrong or harmless or (file, way) == ("checkpoints", "half"), "not noticed"


def changed(whole: bytes, seed: str) -> bytes:
    """A file with some of its bytes changed, by a seed."""
    chance, data = random.Random(seed), bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(data))
        data[at : at + chance.choice((0, 1, 1, 5))] = chance.choice(
            (b"", b"\0", b"[", b'"', b"-1", b"null", bytes([chance.randrange(256)]))
        )
    return bytes(data)


def changed_many_times(loaded: LoadedRun, out: Path, file: str, count: int) -> None:
    whole = (out / file).read_bytes()
    for number in range(count):
        seed = f"{file} {number}"
        (out / file).write_bytes(changed(whole, seed))
        try:
            look(loaded, out)
        except Exception as error:
            error.add_note(f'the file is changed(whole, "{seed}")')
            raise


@pytest.mark.parametrize("file", FILES[:5])
def test_a_file_with_some_bytes_changed_never_ends_in_a_traceback(loaded: LoadedRun, out: Path, file: str) -> None:
    changed_many_times(loaded, out, file, 12)


@pytest.mark.whole
@pytest.mark.parametrize("file", FILES[:5])
def test_a_file_with_bytes_changed_in_many_ways_never_ends_in_a_traceback(loaded: LoadedRun, out: Path, file: str) -> None:
    changed_many_times(loaded, out, file, 100)


def test_check_run_and_report_name_the_file(films: Path, out: Path) -> None:
    (out / NEWEST / "manifest.json").write_text("[]")
    told = f"{out}/{NEWEST}/manifest.json: is not the manifest of a checkpoint: the file is damaged\n    Move this checkpoint out of {out}/checkpoints, so that the run starts over"
    for command in ("check", "run"):
        assert told in ltx(films, command, "pictures.toml", status=2)
    (out / "run.toml").write_bytes(b"\xff")
    told = f"{out}/run.toml: is not UTF-8 text"
    for command in (
        ("check", "pictures.toml"),
        ("run", "pictures.toml"),
        ("report", "out/pictures"),
        ("publish", "out/pictures", "--to", "a/b"),
    ):
        assert told in ltx(films, *command, status=2)


def test_lines_of_metrics_that_are_none_are_left_out_and_the_others_kept(films: Path, out: Path) -> None:
    lines = (out / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (out / "metrics.jsonl").write_bytes(lines[0] + b"\xff\xfe\n[]\n" + lines[1] + b'{"step": 2, "los')
    moved = films / "out" / "moved"
    out.rename(moved)
    try:
        said = ltx(films, "run", "out/moved/run.toml")
        assert f"this unfinished run was moved: it continues in {moved}, not in {out}, which its run.toml names" in said
        assert "resuming after step 2" in said
        assert not out.exists()
        assert (moved / "metrics.jsonl").read_bytes().startswith(lines[0] + lines[1])
        ltx(films, "report", "out/moved")
        assert "with another run file" not in said
    finally:
        shutil.rmtree(moved)


def test_a_moved_run_goes_on_with_its_own_run_file_too(films: Path, out: Path) -> None:
    moved = films / "out" / "moved"
    out.rename(moved)
    try:
        found = draft(load_run(films / "pictures.toml", [f"output_dir={moved}"]), 1).checked()
        assert found.resumes
        assert found.notes == ()
        assert draft(load_run(moved / "run.toml"), 1).checked().folder.path == moved
        assert not draft(load_run(moved / "run.toml", [f"output_dir={films / 'out' / 'other'}"]), 1).checked().resumes
    finally:
        shutil.rmtree(moved)


def test_a_second_run_on_one_folder_is_refused_and_the_first_goes_on(films: Path, out: Path) -> None:
    with writing(out):
        assert f"{out}: is being written by process " in ltx(films, "run", "pictures.toml", status=2)
        assert "is valid." in ltx(films, "check", "pictures.toml")
        ltx(films, "report", "out/pictures")
    assert not (out / ".writer-0.json").exists()


def test_an_error_of_the_disk_is_a_sentence(loaded: LoadedRun, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(out / "samples/a.mp4"))

    monkeypatch.setattr("ltxcore.train.session.Session._go_on", full)
    with pytest.raises((CheckpointError, ConfigError)) as error:
        run(loaded)
    assert str(error.value) == (
        f"{out}/samples/a.mp4: cannot be written: No space left on device\n"
        "    Free some space on that disk, or have your quota there raised, then run the same command again: the run resumes from what was saved last."
    )


def test_a_second_preprocess_of_one_share_is_refused_and_of_another_is_not(films: Path) -> None:
    root = films / "plain" / ".precomputed"
    command = ("preprocess", "plain/clips.jsonl", "--model-path", "tiny", "--no-progress")
    with writing(root):
        told = ltx(films, *command, status=2)
        assert f"{root}: is being written by process " in told
        assert told.endswith("    Wait for it to finish, end it, or take the folder over: --take-over.\n")
    with writing(root, rank=1) as other:
        assert "6 samples in" in ltx(films, *command)
        other.check()
    assert not list(root.glob(".writer*"))
