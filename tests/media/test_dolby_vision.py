"""Dolby Vision that no other decoder can show is refused by name, and what others can show is read."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.hdr_made import GREYS, HLG, STUDIO, as_yuv, dolby_vision, patches, with_dolby_vision, write_hdr
from helpers.media_made import gradient_clip
from ltxcore.errors import DataError
from ltxcore.media.dolby_vision import DolbyVision
from ltxcore.media.probe import probe, read_clip, write_clip


def hevc(path: Path) -> Path:
    planes = patches(as_yuv(GREYS[:, ::16], 10, STUDIO))
    return write_hdr(path, planes, HLG, codec="libx265", pixels="yuv420p10le", frames=2)


def element(name: bytes, content: bytes) -> bytes:
    return name + (len(content) | 1 << 56).to_bytes(8, "big") + content


def into_matroska(path: Path, added: bytes) -> Path:
    """An element in the only track: all is written again, without what says where in the file something is."""
    path.write_bytes(b"".join(rewritten(path.read_bytes(), added)))
    return path


def rewritten(content: bytes, added: bytes) -> Iterator[bytes]:
    """The elements of some content, those around the track with eight bytes of size."""
    seek_head, crc, segment, tracks, track = b"\x11\x4d\x9b\x74", b"\xbf", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae"
    at = 0
    while at < len(content):
        named = 9 - content[at].bit_length()
        sized = 9 - content[at + named].bit_length()
        name, start = content[at : at + named], at + named + sized
        end = start + (int.from_bytes(content[at + named : start], "big") & ((1 << 7 * sized) - 1))
        if name in (segment, tracks, track):
            yield element(name, b"".join(rewritten(content[start:end], added)) + (added if name == track else b""))
        elif name not in (seek_head, crc):
            yield content[at:end]
        at = end


def in_matroska(profile: int, shown_as: int) -> bytes:
    mapping = element(b"\x41\xe7", b"dvcC" if profile < 8 else b"dvvC") + element(b"\x41\xed", dolby_vision(profile, shown_as))
    return element(b"\x41\xe4", mapping)


@pytest.mark.parametrize(("profile", "shown_as", "name"), [(5, 0, b"dvcC"), (10, 0, b"dvvC"), (20, 0, b"dvwC")])
def test_a_profile_without_a_base_layer_to_show_is_refused_by_name(tmp_path: Path, profile: int, shown_as: int, name: bytes) -> None:
    file = with_dolby_vision(hevc(tmp_path / "a.mp4"), profile, shown_as, box=name)
    for read in (probe, read_clip):
        with pytest.raises(DataError) as refused:
            read(file)
        assert f"Dolby Vision profile {profile}" in str(refused.value)
        assert "no base layer that can be shown" in str(refused.value)
        assert str(file) in str(refused.value)
        assert "libplacebo" in str(refused.value)


@pytest.mark.parametrize(
    ("profile", "shown_as", "name"), [(8, 4, b"dvvC"), (8, 1, b"dvvC"), (7, 6, b"dvcC"), (7, 0, b"dvcC"), (10, 1, b"dvvC")]
)
def test_a_profile_with_a_base_layer_is_read_as_that(tmp_path: Path, profile: int, shown_as: int, name: bytes) -> None:
    plain = read_clip(hevc(tmp_path / "a.mp4"))
    file = with_dolby_vision(hevc(tmp_path / "b.mp4"), profile, shown_as, box=name)
    assert bool((read_clip(file).frames == plain.frames).all())
    assert "hdr" in probe(file).picture_corrections


def test_an_enhancement_layer_alone_is_refused(tmp_path: Path) -> None:
    file = with_dolby_vision(hevc(tmp_path / "a.mp4"), 7, 6, has_base=False, box=b"dvcC")
    with pytest.raises(DataError, match="this is only its enhancement layer"):
        read_clip(file)


def test_matroska_is_asked_likewise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Dolby Vision profile 5"):
        probe(into_matroska(hevc(tmp_path / "a.mkv"), in_matroska(5, 0)))
    file = into_matroska(hevc(tmp_path / "b.mkv"), in_matroska(8, 4))
    assert probe(file).frames == 2
    assert read_clip(file).frames.shape == (2, 16, 80, 3)


def test_a_record_that_is_cut_says_nothing() -> None:
    whole = dolby_vision(5, 0)
    assert all(DolbyVision.of(whole[:length]) is None for length in range(4))
    assert DolbyVision.of(whole) == DolbyVision(5, True, 0)


def test_other_files_are_not_asked(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.png", gradient_clip(1))
    assert probe(tmp_path / "a.png").frames == 1
