"""The run files of a folder: found, opened, kept as drafts, and saved whole and never over another program's change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ltxcore.api import ConfigError, DataError
from ltxplugins.studio.run_file.files import BESIDE, Changed, RunFiles
from ltxplugins.studio.workspace import Workspace

TEXT = '[model]\nmodel_path = "tiny"\n\n[training_strategy]\nname = "flexible"\n\n[training_strategy.video]\nis_generated = true\n'


@pytest.fixture
def files(tmp_path: Path) -> RunFiles:
    (tmp_path / "run.toml").write_text(TEXT)
    return RunFiles(Workspace(tmp_path))


def test_run_files_are_found_and_other_toml_files_are_not(files: RunFiles, tmp_path: Path) -> None:
    for name in ("deep/er/other.toml", "outputs/run/config.toml", ".hidden/run.toml", ".studio/run.toml", "a/b/c/d/e/f.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(TEXT)
    (tmp_path / "outputs/run/config.toml").write_text(f"# The whole run: every value spelled out.\n{TEXT}")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    (tmp_path / "broken.toml").write_text("[model]\nmodel_path = \n")
    found = {each.name: each for each in files.all()}
    assert found.keys() == {"run.toml", "deep/er/other.toml", "outputs/run/config.toml", "broken.toml"}
    assert (found["run.toml"].mode, found["run.toml"].model, found["broken.toml"].mode) == ("LoRA: video", "tiny", "")
    assert [each.is_of_run for each in files.all()] == [False, False, False, True]


def test_a_file_that_leads_out_of_the_folder_is_not_listed(files: RunFiles, tmp_path_factory: pytest.TempPathFactory) -> None:
    (secret := tmp_path_factory.mktemp("elsewhere") / "secret.toml").write_text(TEXT)
    (files.workspace.root / "link.toml").symlink_to(secret)
    assert [each.name for each in files.all()] == ["run.toml"]
    with pytest.raises(DataError, match="outside"):
        files.open("link.toml")


@pytest.mark.parametrize("name", ["run.txt", "../run.toml", ".studio/x.toml", "folder/.hidden.toml", "run.toml/../../x.toml", ""])
def test_only_run_files_are_opened(files: RunFiles, name: str) -> None:
    with pytest.raises(DataError):
        files.open(name)


def test_a_text_that_is_not_saved_is_there_for_the_next_server(files: RunFiles) -> None:
    opened = files.open("run.toml")
    assert files.keep("run.toml", "seed = 1\n", opened.base)
    again = RunFiles(Workspace(files.workspace.root)).open("run.toml")
    assert (again.text, again.base, again.is_draft) == ("seed = 1\n", opened.base, True)
    assert files.all()[0].is_draft
    assert (files.workspace.root / "run.toml").read_text() == TEXT


def test_a_draft_that_says_what_the_file_says_is_forgotten(files: RunFiles) -> None:
    opened = files.open("run.toml")
    files.keep("run.toml", "seed = 1\n", opened.base)
    assert not files.keep("run.toml", TEXT, opened.base)
    assert not files.open("run.toml").is_draft


def test_saving_writes_the_file_and_ends_the_draft(files: RunFiles) -> None:
    opened = files.open("run.toml")
    files.keep("run.toml", "seed = 1\n", opened.base)
    base = files.save("run.toml", "seed = 1\n", opened.base)
    assert (files.workspace.root / "run.toml").read_text() == "seed = 1\n"
    assert files.open("run.toml") == files.open("run.toml").__class__("seed = 1\n", base, False)


def test_a_file_that_changed_meanwhile_is_not_overwritten(files: RunFiles) -> None:
    opened = files.open("run.toml")
    (files.workspace.root / "run.toml").write_text("seed = 2\n")
    with pytest.raises(Changed, match="changed by another program") as raised:
        files.save("run.toml", "seed = 1\n", opened.base)
    assert raised.value.text == "seed = 2\n"
    assert (files.workspace.root / "run.toml").read_text() == "seed = 2\n"
    (files.workspace.root / "run.toml").unlink()
    with pytest.raises(Changed, match="removed"):
        files.save("run.toml", "seed = 1\n", opened.base)
    files.save("run.toml", "seed = 1\n", files.base("run.toml"))  # the user said so


def test_a_draft_of_a_file_that_changed_keeps_what_it_was_made_from(files: RunFiles) -> None:
    opened = files.open("run.toml")
    files.keep("run.toml", "seed = 1\n", opened.base)
    (files.workspace.root / "run.toml").write_text("seed = 2\n")
    with pytest.raises(Changed):
        files.save("run.toml", "seed = 1\n", files.open("run.toml").base)


def test_line_ends_stay_as_they_were(files: RunFiles) -> None:
    path = files.workspace.root / "run.toml"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    opened = files.open("run.toml")
    assert opened.text == TEXT
    files.save("run.toml", TEXT + "# end\n", opened.base)
    assert path.read_bytes() == (TEXT + "# end\n").replace("\n", "\r\n").encode()


def test_a_file_that_is_not_text_is_refused(files: RunFiles) -> None:
    (files.workspace.root / "run.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        files.open("run.toml")


def test_what_a_killed_server_left_beside_a_file_is_removed_by_the_next(files: RunFiles) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    left = files.workspace.root / f"{BESIDE}{ended.pid}-1.toml"
    left.write_text(TEXT)
    made = files.beside("run.toml", "seed = 3\n")
    assert (made.parent, made.read_text(), left.exists()) == (files.workspace.root, "seed = 3\n", False)
    assert files.beside("run.toml", "seed = 4\n") != made
    assert made.exists()
    assert [each.name for each in files.all()] == ["run.toml"]
