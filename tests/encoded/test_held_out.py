"""The held-out samples: as many as asked, whole origins, the same for every seed."""

import pytest

from ltxcore.encoded.held_out import Split, origin_of, restored, split
from ltxcore.errors import ConfigError, DataError
from ltxcore.protocols import Entry, Manifest


def _manifest(origins: dict[str, str]) -> Manifest:
    return Manifest({"audio": {name: Entry((8, 6, 16), origin=origin) for name, origin in origins.items()}})


def _clips(count: int) -> Manifest:
    return _manifest({f"clip{number:03}": f"clip{number:03}.wav" for number in range(count)})


@pytest.mark.parametrize(("samples", "expected"), [(1, 0), (4, 0), (5, 1), (19, 1), (29, 1), (40, 2), (100, 5), (640, 32), (700, 32)])
def test_by_default_five_percent_are_held_out_of_five_or_more_at_least_one_and_at_most_32(samples: int, expected: int) -> None:
    found = split(_clips(samples), None)
    assert len(found.held_out) == expected
    assert sorted(found.train + found.held_out) == list(_clips(samples).samples)


@pytest.mark.parametrize(("held_out", "expected"), [(0, 0), (1, 1), (7, 7), (9, 9), (0.0, 0), (0.01, 1), (0.5, 5), (0.94, 9)])
def test_a_number_or_a_share_holds_out_that_many_even_of_few(held_out: int | float, expected: int) -> None:
    assert len(split(_clips(10), held_out).held_out) == expected


def test_clips_of_one_origin_stay_together() -> None:
    manifest = _manifest({f"film{number % 7}/scene{number:03}": f"film{number % 7}.mp4" for number in range(70)})
    found = split(manifest, 25)
    films = {name.split("/")[0] for name in found.held_out}
    assert len(found.held_out) == 20
    assert not films & {name.split("/")[0] for name in found.train}


def test_never_more_than_asked_but_where_every_origin_has_more() -> None:
    manifest = _manifest({f"{film}{number}": film for film, size in (("a", 5), ("b", 4), ("c", 6)) for number in range(size)})
    assert split(manifest, 3).held_out == ("b0", "b1", "b2", "b3")
    assert len(split(manifest, 7).held_out) <= 7


def test_the_choice_is_the_same_again_and_mostly_the_same_when_samples_are_added() -> None:
    before = set(split(_clips(100), 10).held_out)
    assert before == set(split(_clips(100), 10).held_out)
    after = set(split(_clips(110), 10).held_out)
    assert len(before & after) >= 7


def test_the_choice_is_not_the_first_names() -> None:
    assert split(_clips(100), 10).held_out != _clips(100).samples[:10]


@pytest.mark.parametrize(
    ("held_out", "told"),
    [
        (10, "held_out = 10 leaves nothing to train on: there are 10 samples"),
        (11, "held_out = 11 leaves nothing to train on: there are 10 samples"),
        (1.0, "held_out = 1.0 leaves nothing to train on: there are 10 samples"),
        (0.99, "held_out = 0.99 leaves nothing to train on: there are 10 samples"),
    ],
)
def test_at_least_one_sample_is_left_to_train_on(held_out: int | float, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        split(_clips(10), held_out)
    assert str(caught.value) == f"{told}\n    Hold out fewer, or name another dataset to hold out."


def test_a_single_sample_cannot_be_held_out() -> None:
    with pytest.raises(ConfigError) as caught:
        split(_clips(1), 1)
    told = "held_out = 1 leaves nothing to train on: there is 1 sample"
    assert str(caught.value) == f"{told}\n    Hold out fewer, or name another dataset to hold out."


@pytest.mark.parametrize("held_out", [-1, -0.1, float("nan")])
def test_a_negative_number_is_refused(held_out: int | float) -> None:
    with pytest.raises(ConfigError) as caught:
        split(_clips(10), held_out)
    assert str(caught.value) == f"held_out = {held_out} is negative\n    Use a number of samples, or a share below 1."


def test_clips_of_one_file_alone_are_all_trained_on_unless_asked() -> None:
    manifest = _manifest({f"scene{number:03}": "film.mp4" for number in range(40)})
    assert split(manifest, None) == Split(manifest.samples, (), "all of them come from one file, film.mp4")
    with pytest.raises(ConfigError) as caught:
        split(manifest, 4)
    told = "held_out = 4 leaves nothing to train on: all 40 samples come from one file, film.mp4"
    assert str(caught.value) == f"{told}\n    Set held_out = 0, or name another dataset to hold out."


def test_the_origin_is_that_of_the_video_then_the_audio_then_any_then_the_name() -> None:
    def manifest(**origins: str) -> Manifest:
        return Manifest({role: {"a": Entry((1,), origin=origin)} for role, origin in origins.items()})

    assert origin_of(manifest(audio="a.wav", text="caption", video="a.mp4"), "a") == "a.mp4"
    assert origin_of(manifest(text="caption", audio="a.wav"), "a") == "a.wav"
    assert origin_of(manifest(text="caption", audio=""), "a") == "caption"
    assert origin_of(manifest(text="", audio=""), "a") == "a"


def test_why_nothing_is_held_out_is_said() -> None:
    assert split(_clips(4), None).why_none == "there are only 4 samples"
    assert split(_clips(40), 0).why_none == "held_out = 0 asks for that"
    assert split(_clips(5), None).why_none == ""
    assert restored(_clips(5), []).why_none == "none were held out when this run began"


def test_a_run_that_goes_on_keeps_its_held_out_samples() -> None:
    manifest = _clips(10)
    first = split(manifest, 3)
    assert restored(manifest, first.held_out) == first
    more = restored(_clips(12), first.held_out)
    assert more.held_out == first.held_out
    assert len(more.train) == 9


def test_a_run_whose_held_out_samples_are_gone_does_not_go_on() -> None:
    with pytest.raises(DataError) as caught:
        restored(_clips(5), ["clip004", "clip007"])
    told = "held-out samples of this run are no longer in its data: clip007"
    assert str(caught.value) == f"{told}\n    Restore the samples, or start a new run in another output_dir."


def test_a_run_of_which_only_held_out_samples_are_left_does_not_go_on() -> None:
    with pytest.raises(DataError) as caught:
        restored(_clips(2), ["clip000", "clip001"])
    assert str(caught.value) == "all samples are held out, and none is left to train on\n    Restore the other samples."


def test_the_choice_is_that_of_earlier_versions() -> None:
    """Recorded with the code that hashed the origins each time."""
    names = [f"{'ab'[number % 3 == 0]}/clip_{number:02}" for number in range(40)]
    video = {name: Entry((16, 3, 2, 4), origin=f"{number // 2}.mp4") for number, name in enumerate(names) if number % 5}
    audio = {name: Entry((8, 26, 16)) for number, name in enumerate(names) if number % 7 or not number % 5}
    chosen = split(Manifest({"video": video, "audio": audio}), 6)
    assert chosen.held_out == ("a/clip_01", "a/clip_14", "a/clip_16", "a/clip_17", "a/clip_19", "b/clip_18")
