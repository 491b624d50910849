"""The queue of a served studio goes on after what stopped it is mended."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from helpers.studio_browser import served
from helpers.waiting import wait


def test_jobs_start_again_once_the_folder_of_the_jobs_can_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".studio").mkdir()
    in_the_way = tmp_path / ".studio" / "jobs"
    in_the_way.write_text("this is no folder")
    with caplog.at_level(logging.WARNING, "ltx.studio"), served(tmp_path) as studio:
        wait(lambda: "waiting jobs cannot be started" in caplog.text)
        in_the_way.unlink()
        job = studio.app.state.studio.jobs.add("check", "Its version", ["--version"])
        wait(lambda: job.state == "done")
    assert caplog.text.count("waiting jobs cannot be started") == 1
