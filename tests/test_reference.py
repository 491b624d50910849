"""The reference pages are those that the code makes."""

from __future__ import annotations

import reference


def test_the_page_of_run_files_is_made_from_the_schema() -> None:
    assert reference.RUN_FILE_PAGE.read_text() == reference.run_file_page()


def test_the_page_of_commands_is_made_from_the_program() -> None:
    assert reference.COMMANDS_PAGE.read_text() == reference.commands_page()
