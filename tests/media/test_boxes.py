"""What an MP4 file says of how its pictures are shown."""

from pathlib import Path

import av
import pytest

from helpers.media_made import encode, gradient_clip, tone
from ltxcore.media.boxes import shows_as_stored
from ltxcore.media.probe import shown_size, write_clip


@pytest.mark.parametrize(("degrees", "as_stored", "size"), [(0, True, (32, 64)), (90, False, (64, 32)), (180, False, (32, 64))])
def test_a_turned_clip_does_not_show_as_it_is_stored(tmp_path: Path, degrees: int, as_stored: bool, size: tuple[int, int]) -> None:
    write_clip(tmp_path / "plain.mp4", gradient_clip(9, 32, 64), tone(0.3))
    with av.open(str(tmp_path / "plain.mp4")) as source, av.open(str(tmp_path / "a.mp4"), "w") as target:
        streams = {each.index: target.add_stream_from_template(each) for each in source.streams}
        if degrees:
            target.streams.video[0].set_display_rotation(degrees)
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    assert shows_as_stored(tmp_path / "a.mp4") is as_stored
    assert shown_size(tmp_path / "a.mp4") == size


def test_other_containers_and_broken_ones_do_not_say(tmp_path: Path) -> None:
    assert not shows_as_stored(encode(tmp_path / "a.mkv", gradient_clip(9)))
    write_clip(tmp_path / "a.png", gradient_clip(1, 32, 32))
    assert not shows_as_stored(tmp_path / "a.png")
    write_clip(tmp_path / "a.mp4", gradient_clip(9))
    whole = (tmp_path / "a.mp4").read_bytes()
    for end in range(0, whole.index(b"mdat") - 8, 97):
        (tmp_path / "cut.mp4").write_bytes(whole[:end])
        assert not shows_as_stored(tmp_path / "cut.mp4")


def test_the_shown_size_is_told_by_one_frame_of_any_container(tmp_path: Path) -> None:
    for name, pictures in (("a.mkv", "libx264"), ("a.ts", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4")):
        assert shown_size(encode(tmp_path / name, gradient_clip(9, 32, 64), pictures=pictures)) == (32, 64)
