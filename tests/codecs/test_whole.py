"""Is a file all there? Structures made by hand, byte by byte; test_media.py cuts real files."""

from pathlib import Path

import pytest

from ltxcore.codecs.whole import is_cut_short


def box(kind: bytes, content: bytes = b"", length: int | None = None) -> bytes:
    return (len(content) + 8 if length is None else length).to_bytes(4, "big") + kind + content


def page(*segments: int) -> bytes:
    return b"OggS" + bytes(22) + bytes([len(segments), *segments]) + bytes(sum(segments))


FTYP, MOOV = box(b"ftyp", b"isom" + bytes(4)), box(b"moov", bytes(20))
EBML = b"\x1a\x45\xdf\xa3\x84" + bytes(4)
SEGMENT = b"\x18\x53\x80\x67"

WHOLE = {
    "a RIFF file": b"RIFF" + (4 + 20).to_bytes(4, "little") + b"WAVE" + bytes(20),
    "one whose last chunk lacks its padding": b"RIFF" + (4 + 21 + 1).to_bytes(4, "little") + b"WAVE" + bytes(21),
    "one that a recorder could not go back to": b"RIFF\xff\xff\xff\xffWAVE" + bytes(20),
    "one with something after it": b"RIFF" + (4).to_bytes(4, "little") + b"WAVE" + bytes(20),
    "a chain of boxes": FTYP + MOOV + box(b"mdat", bytes(50)),
    "a box of 64-bit size": FTYP + MOOV + b"\0\0\0\x01mdat" + (16 + 50).to_bytes(8, "big") + bytes(50),
    "a last box that goes on to the end": FTYP + MOOV + box(b"mdat", bytes(50), length=0),
    "boxes followed by garbage": FTYP + MOOV + b"\0\0\0\x03????" + bytes(9),
    "pages": page(10, 255, 3) + page(7),
    "pages followed by another program's tag": page(10) + b"TAG" + bytes(40),
    "a segment": EBML + SEGMENT + b"\x8a" + bytes(10),
    "a segment with an eight-byte size": EBML + SEGMENT + b"\x01" + (10).to_bytes(7, "big") + bytes(10),
    "a live segment": EBML + SEGMENT + b"\x01" + b"\xff" * 7 + bytes(10),
    "a photograph": b"\xff\xd8\xff\xda" + bytes(30) + b"\xff\xd9",
    "one with bytes after its end": b"\xff\xd8\xff\xda" + bytes(30) + b"\xff\xd9" + bytes(10),
    "something else": b"fLaC" + bytes(100),
    "nothing": b"",
}

SHORT = {
    "a RIFF file": b"RIFF" + (4 + 20).to_bytes(4, "little") + b"WAVE" + bytes(18),
    "a box": FTYP + MOOV + box(b"mdat", bytes(49), length=58),
    "a box of 64-bit size": FTYP + MOOV + b"\0\0\0\x01mdat" + (16 + 50).to_bytes(8, "big") + bytes(49),
    "boxes without their index": FTYP + box(b"mdat", bytes(50)),
    "boxes that break off before their index": FTYP + box(b"mdat", bytes(50), length=0),
    "a page": page(10, 255, 3) + page(7)[:-1],
    "a page's header": page(10) + page(7)[:20],
    "a page's magic": page(10) + b"Og",
    "a segment": EBML + SEGMENT + b"\x8a" + bytes(9),
    "a file before its segment": EBML[:-2],
    "a photograph": b"\xff\xd8\xff\xda" + bytes(30),
    "one whose thumbnail is whole": b"\xff\xd8\xff\xe1\xff\xd8\xff\xda" + bytes(9) + b"\xff\xd9\xff\xda" + bytes(30),
}


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
def test_it_is_whole(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert not is_cut_short(tmp_path / "a")


@pytest.mark.parametrize("content", SHORT.values(), ids=SHORT)
def test_it_is_cut_short(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert is_cut_short(tmp_path / "a")
