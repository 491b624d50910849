"""Is a file all there? Structures made by hand, byte by byte; test_media.py cuts real files."""

import io
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from PIL import Image

from helpers.media_made import cut, gradient_clip, pitch, tone
from ltxcore.media.probe import probe, read_sound
from ltxcore.media.whole import is_cut_short, says_no_length


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
    "a chain of boxes that holds items": FTYP + box(b"meta", bytes(20)) + box(b"mdat", bytes(50)),
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
def test_a_file_that_was_written_to_its_end_is_whole(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert not is_cut_short(tmp_path / "a")


@pytest.mark.parametrize("content", SHORT.values(), ids=SHORT)
def test_a_file_without_its_end_is_cut_short(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert is_cut_short(tmp_path / "a")


PCM = bytes(range(200))
FORMAT = b"fmt \x10\0\0\0\x01\0\x01\0" + (8000).to_bytes(4, "little") + (16000).to_bytes(4, "little") + b"\x02\0\x10\0"


def wave(riff: int, data: int, name: bytes = b"RIFF", sizes: tuple[int, int] | None = None) -> bytes:
    """A WAV of 100 samples that says these sizes; `sizes`: of all and of the samples, in 64 bits."""
    long = (
        b"" if sizes is None else b"ds64" + (28).to_bytes(4, "little") + b"".join(n.to_bytes(8, "little") for n in (*sizes, 100)) + bytes(4)
    )
    return name + riff.to_bytes(4, "little") + b"WAVE" + long + FORMAT + b"data" + data.to_bytes(4, "little") + PCM


NOT_KNOWN = 0xFFFFFFFF
WITHOUT_LENGTH = {
    "written to a pipe by FFmpeg": wave(NOT_KNOWN, NOT_KNOWN),
    "written to a pipe by SoX": wave(0x7FFFF024, 0x7FFFF000),
    "written to a pipe as if it had two gigabytes": wave(0x7FFFFFFF, 0x7FFFFFFF - 36),
    "of a recorder that was stopped": wave(0, 0),
    "whose samples alone have no size": wave(36 + 200, 0),
    "RF64 of a recorder that was stopped": wave(NOT_KNOWN, NOT_KNOWN, b"RF64", (0, 0)),
    "RF64 to a pipe": wave(NOT_KNOWN, NOT_KNOWN, b"RF64", (2**64 - 1, 2**64 - 1)),
    "BW64 to a pipe": wave(NOT_KNOWN, NOT_KNOWN, b"BW64", (2**63 - 1, 2**63 - 1)),
}
OF_KNOWN_LENGTH = {
    "RIFF": wave(36 + 200, 200),
    "RF64": wave(NOT_KNOWN, NOT_KNOWN, b"RF64", (36 + 36 + 200, 200)),
    "BW64": wave(NOT_KNOWN, NOT_KNOWN, b"BW64", (36 + 36 + 200, 200)),
    "RF64 whose samples are counted in 32 bits": wave(NOT_KNOWN, 200, b"RF64", (0, 0)),
}


@pytest.mark.parametrize("content", [*WITHOUT_LENGTH.values(), *OF_KNOWN_LENGTH.values()], ids=[*WITHOUT_LENGTH, *OF_KNOWN_LENGTH])
def test_a_wav_is_read_to_its_end_whatever_it_says_of_its_length(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert says_no_length(path) == (content in WITHOUT_LENGTH.values())
    sound = read_sound(path)
    assert (sound.rate, torch.equal(sound.samples[0], torch.frombuffer(bytearray(PCM), dtype=torch.int16).float() / 2**15)) == (8000, True)
    assert probe(path).duration == pytest.approx(100 / 8000)


@pytest.mark.parametrize(
    "content",
    [
        wave(36 + 200, 200)[:-20],
        wave(NOT_KNOWN, 200)[:-20],
        wave(NOT_KNOWN, NOT_KNOWN, b"RF64", (36 + 36 + 200, 200))[:-20],
        wave(NOT_KNOWN, NOT_KNOWN, b"BW64", (36 + 36 + 200, 200))[:-20],
    ],
)
def test_a_wav_that_says_its_length_and_lacks_of_it_is_cut_short(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert is_cut_short(tmp_path / "a.wav")


class Pipe(io.RawIOBase):
    """Takes what is written and cannot go back, as a pipe."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        self.content += bytes(data)
        return len(data)


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("wav", "pcm_s16le"), ("wav", "pcm_f32le"), ("wav", "adpcm_ms"), ("caf", "pcm_s16be"), ("au", "pcm_s16be"), ("flac", "flac"), ("ogg", "libopus"),
     ("mp3", "libmp3lame"), ("matroska", "aac"), ("adts", "aac")],
)  # fmt: skip
def test_a_sound_that_was_written_to_a_pipe_is_read(tmp_path: Path, kind: str, codec: str) -> None:
    path, pipe, sound = tmp_path / "a.sound", Pipe(), tone(0.5, 48_000)
    with av.open(pipe, "w", format=kind) as container:
        track = container.add_stream(codec, rate=48_000, layout="mono")
        whole = av.AudioFrame.from_ndarray(sound.samples.numpy(), format="fltp", layout="mono")
        whole.sample_rate, whole.pts = 48_000, 0
        for frame in av.AudioResampler(format=track.codec_context.format or "s16", layout="mono", rate=48_000).resample(whole):
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    path.write_bytes(pipe.content)
    found = read_sound(path)
    assert (found.rate, found.duration) == (48_000, pytest.approx(0.5, abs=0.08))
    assert pitch(found) == pytest.approx(440, abs=3)


def test_photographs_of_items_are_whole_and_cut_ones_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    Image.fromarray(gradient_clip(1, 64, 96).frames[0].numpy()).save(path)
    assert not is_cut_short(path)
    for share in (0.3, 0.7, 0.99):
        assert is_cut_short(cut(path, tmp_path / "b.avif", share))
