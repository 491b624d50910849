"""Files that the browser sends are given a name when they are whole, and otherwise nothing of them stays."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.requests import ClientDisconnect

from ltxplugins.studio.arriving import arriving


async def pieces(*parts: bytes, breaks: bool = False) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if breaks:
        raise ClientDisconnect


async def receive(folder: Path, body: AsyncIterator[bytes], name: str = "") -> str:
    """Receive a file, give it a name unless that is "", and return the ending that it had before."""
    async with arriving(body, folder, ".mp4") as path:
        assert [each.name for each in folder.iterdir()] == [path.name]
        assert path.read_bytes() == b"onetwo"
        if name:
            path.replace(folder / name)
    return path.suffix


@pytest.mark.parametrize(("name", "left"), [("a.mp4", ["a.mp4"]), ("", [])])
def test_a_file_is_provided_whole_and_removed_unless_it_gets_a_name(tmp_path: Path, name: str, left: list[str]) -> None:
    assert asyncio.run(receive(tmp_path, pieces(b"one", b"two"), name)) == ".mp4"
    assert [each.name for each in tmp_path.iterdir()] == left


def test_a_file_that_breaks_off_is_never_provided(tmp_path: Path) -> None:
    with pytest.raises(ClientDisconnect):
        asyncio.run(receive(tmp_path, pieces(b"one", breaks=True)))
    assert list(tmp_path.iterdir()) == []


def test_a_file_may_be_read_by_those_who_may_read_other_new_files(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        asyncio.run(receive(tmp_path, pieces(b"one", b"two"), "a.mp4"))
    finally:
        os.umask(before)
    assert (tmp_path / "a.mp4").stat().st_mode & 0o777 == 0o644
