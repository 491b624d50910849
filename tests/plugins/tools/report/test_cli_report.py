"""`ltx report` writes the page and says where."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from helpers.made_run import made_run
from ltxcore.cli.main import main


def test_the_page_is_written_beside_the_run_or_where_it_is_asked_for(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run")
    for more, path in (([], folder / "report.html"), (["-o", str(tmp_path / "page.html"), "--embed", "0"], tmp_path / "page.html")):
        done = CliRunner().invoke(main, ["report", str(folder), *more])
        assert (done.exit_code, done.stdout) == (0, f"{path}\n")
        assert path.read_text().startswith("<!doctype html>")


def test_a_folder_that_is_not_of_a_run_is_a_mistake_in_a_sentence(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["report", str(tmp_path / "nothing")])
    assert (done.exit_code, done.stderr) == (
        2,
        f"{tmp_path / 'nothing'}: this is not the output folder of a run\n    Name the output_dir of a run that `ltx run` started.\n",
    )
