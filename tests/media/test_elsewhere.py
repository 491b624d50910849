"""Playlists, scripts, pipes and devices: what is no medium but leads elsewhere is refused by name, and nothing that it names is opened."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from helpers.media_made import encode, gradient_clip, tone
from ltxcore.errors import DataError
from ltxcore.media.elsewhere import lead, options
from ltxcore.media.probe import frame_seconds, probe, read_clip, read_sound, shown_size, write_clip

READERS: tuple[Callable[[Path], object], ...] = (probe, read_clip, read_sound, lambda path: frame_seconds(path, 9), shown_size)

HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\nbeside.ts\n#EXT-X-ENDLIST\n"
DASH = '<?xml version="1.0"?>\n<!-- made by hand -->\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>\n'
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=none\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
CUE = 'REM DATE 1998\nTITLE "It"\nFILE "beside.wav" WAVE\n  TRACK 01 AUDIO\n'

LEADS = {
    HLS: "a playlist (M3U, as HLS has them)",
    "\ufeff#EXTM3U\nbeside.ts\n": "a playlist (M3U, as HLS has them)",
    "[playlist]\nFile1=beside.ts\n": "a playlist (PLS)",
    "[Reference]\nRef1=beside.ts\n": "a playlist (ASX)",
    '<ASX version="3.0"><Entry><Ref href="beside.ts"/></Entry></ASX>': "a playlist (ASX)",
    "<smil><body><video src='beside.ts'/></body></smil>": "a playlist (SMIL)",
    '<?xml version="1.0"?><playlist version="1"></playlist>': "a playlist (XSPF)",
    DASH: "a playlist (DASH)",
    '<?xml version="1.0"?><SmoothStreamingMedia MajorVersion="2">': "a playlist (Smooth Streaming)",
    '<?xml version="1.0"?><CompositionPlaylist>': "a playlist (IMF)",
    "ffconcat version 1.0\nfile beside.ts\n": "a list of files to be joined (ffconcat)",
    "# my clips\n# all of them\nfile 'beside.ts'\nfile 'other.ts'\n": "a list of files to be joined (ffconcat)",
    SDP: "the description of a stream (SDP)",
    "rtsp://camera/stream\n": "an address",
    "https://example.org/a.mp4": "an address",
    "[InternetShortcut]\nURL=https://example.org/a.mp4\n": "a link to an address",
    CUE: "a list of tracks (CUE)",
}


def refusal(path: Path, read: Callable[[Path], object]) -> str:
    with pytest.raises(DataError) as error:
        read(path)
    return str(error.value)


@pytest.mark.parametrize("name", ["a.m3u8", "x.mp4", "y.wav"])
@pytest.mark.parametrize("text", LEADS, ids=range(len(LEADS)))
def test_what_leads_to_other_files_is_refused_by_what_it_is_under_any_name(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    for read in READERS:
        assert refusal(path, read) == f"{path}: this is {LEADS[text]}, not a media file\n    Name the files that it refers to."


def test_what_stands_for_a_medium_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    (tmp_path / "b.mp4").write_text("<!DOCTYPE html><html><body>Please log in</body></html>")
    told = f"{tmp_path}/a.mp4: this is a pointer of Git LFS, not a media file\n    Get the file itself: git lfs pull"
    assert refusal(tmp_path / "a.mp4", probe) == told
    assert refusal(tmp_path / "b.mp4", probe) == f"{tmp_path}/b.mp4: this is a web page, not a media file\n    Download the file itself."


@pytest.mark.parametrize("text", ["A file of words, no list.", "# " * 4000 + "x", "rem " * 2000, "<" * 8000, "version 2", "", "\xff\xfe"])
def test_other_text_leads_nowhere_and_is_read_in_no_time(text: str) -> None:
    assert lead(text.encode("latin-1")) is None


@pytest.mark.parametrize("text", [HLS, "ffconcat version 1.0\nfile beside.ts\n"], ids=["HLS", "ffconcat"])
def test_ffmpeg_itself_is_kept_from_the_files_that_a_playlist_names(tmp_path: Path, text: str) -> None:
    encode(tmp_path / "beside.ts", gradient_clip(9))
    path = tmp_path / "a.m3u8"
    path.write_text(text)
    with av.open(str(path)) as container:  # left to itself it follows
        assert container.streams.video[0].codec_context.name == "h264"
    with pytest.raises(av.error.FFmpegError):
        av.open(str(path), container_options=options())
    (tmp_path / "beside.ts").unlink()
    os.mkfifo(tmp_path / "beside.ts")  # whoever opened this would wait for a writer
    assert "not a media file" in refusal(path, probe)


def test_ffmpeg_knows_no_protocol_but_that_of_files(tmp_path: Path) -> None:
    whole = encode(tmp_path / "a.ts", gradient_clip(9))
    for address in (
        f"concat:{whole}",
        f"subfile,,start,0,end,0,,:{whole}",
        f"crypto:{whole}",
        f"async:{whole}",
        "data:video/mp4;base64,AAAA",
    ):
        with pytest.raises(av.error.FFmpegError):
            av.open(address, container_options=options())


@pytest.mark.parametrize(
    "name", ["img%03d.png", "img%d.png", "img*.png", "img?.png", "img{1,2}.png", "concat:a.png", "data:,a.png", "-.png"]
)
def test_a_name_stands_for_no_other_file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for other in ("img001.png", "img1.png", "img2.png", "a.png"):
        write_clip(tmp_path / other, gradient_clip(1, 16, 16))
    write_clip(tmp_path / "made.png", gradient_clip(1, 32, 48))
    Path("made.png").rename(name)
    for path in (Path(name), tmp_path / name):
        assert (probe(path).frames, probe(path).height, probe(path).width) == (1, 32, 48)
        assert read_clip(path).frames.shape == (1, 32, 48, 3)


def test_pipes_sockets_and_devices_are_refused_before_anything_waits_for_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "b.mp4"))
        places = {tmp_path / "a.mp4": "pipe", tmp_path / "b.mp4": "socket", Path("/dev/null"): "device"}
        told: dict[Path, list[str]] = {}
        reading = threading.Thread(
            target=lambda: told.update({path: [refusal(path, read) for read in READERS] for path in places}), daemon=True
        )
        reading.start()
        reading.join(timeout=20)
    for path, what in places.items():
        assert told[path] == [f"{path}: this is a {what}, not a file\n    Name a file."] * len(READERS)


def test_a_sound_that_a_script_would_make_is_no_medium(tmp_path: Path) -> None:
    path = tmp_path / "a.sbg"
    path.write_text("-SE\nalloff: -\non: 200+10/50\nNOW on\n+00:00:01 alloff\n")
    with av.open(str(path)) as container:
        assert container.streams.audio
    assert "this is not a clip, a sound or an image that can be read" in refusal(path, read_sound)


def test_media_are_read_as_they_were(tmp_path: Path) -> None:
    for name, pictures, sound in (
        ("a.ts", "libx264", "aac"),
        ("a.mkv", "libx264", "aac"),
        ("a.avi", "mpeg4", "mp3"),
        ("a.mov", "libx264", "aac"),
    ):
        path = encode(tmp_path / name, gradient_clip(9), tone(0.4, 48_000), pictures=pictures, codec=sound)
        with av.open(str(path)) as alone, av.open(str(path), container_options=options()) as held:
            assert alone.format.name == held.format.name
            assert [packet.pts for packet in alone.demux()] == [packet.pts for packet in held.demux()]
