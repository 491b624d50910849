"""A path on the command line that no file can have is a mistake of the command line, whatever the command."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.older_runs import MADE
from helpers.raw_media import sound_file
from ltxcore.cli.main import main

LONG, DEEP = "x" * 300, "x/" * 3000
URL = ("--base-url", "http://127.0.0.1:9", "--model", "m")

CASES: Sequence[tuple[str, ...]] = [
    ("check", "PATH"),
    ("run", "PATH"),
    ("plan", "PATH"),
    ("inspect", "PATH"),
    ("launch", "PATH", "--num-gpus", "1"),
    ("launch", "run.toml", "--hostfile", "PATH"),
    ("preprocess", "PATH", "--model-path", "tiny"),
    ("preprocess", "a.jsonl", "--model-path", "tiny", "--output-dir", "PATH"),
    ("split", "PATH", "-o", "out"),
    ("caption", "PATH", *URL),
    ("captions", "PATH"),
    ("reference", "PATH", "-o", "a.jsonl"),
    ("decode", "PATH", "-o", "out"),
    ("doctor", "PATH"),
    ("report", "PATH"),
    ("sample", "x", "--model", "tiny", "-o", "PATH"),
    ("export", "PATH", "--for", "comfyui", "-o", "a"),
    ("publish", "PATH"),
    ("model", "PATH"),
    ("plugins", "show", "mask", "--plugin", "PATH"),
    ("plugins", "list", "--plugin", "PATH"),
    ("preprocess", "a.jsonl", "--model-path", "tiny", "--plugin", "PATH"),
    ("check", "a.jsonl", "--plugin", "PATH"),
    ("plugins", "new", "mine", "--into", "PATH"),
    ("schema", "--plugin", "PATH"),
    ("convert", "PATH"),
]


@pytest.mark.parametrize("case", CASES, ids=" ".join)
@pytest.mark.parametrize(("path", "what"), [(LONG, f'the name "{"x" * 40}..." is too long'), (DEEP, "the path is too long")])
def test_a_path_that_no_file_can_have_is_refused_in_words(
    case: tuple[str, ...], path: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [path if word == "PATH" else word for word in case])
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert what in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    "case",
    [
        ("sample", LONG + ".toml"),
        ("sample", "x", "--model", LONG),
        ("sample", "x", "--model", "tiny", "--lora", LONG),
        ("preprocess", "a.jsonl", "--model-path", LONG),
        ("decode", "encoded", "-o", "out", "--model-path", LONG),
    ],
    ids=lambda case: " ".join(case).replace(LONG, "LONG"),
)
def test_a_text_that_names_a_file_or_something_else_is_refused_in_words(
    case: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound_file(tmp_path / "a.wav")
    (tmp_path / "a.jsonl").write_text('{"audio": "a.wav", "caption": "c"}\n')
    shutil.copytree(MADE / "otherwise" / ".precomputed", tmp_path / "encoded")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, list(case))
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert any(
        said in " ".join(done.stderr.split()) for said in ("too long", "there is no file", "names neither a file", "there is no model")
    )
