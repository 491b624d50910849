"""Samples are grouped by what they share, wherever their entries lie."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from ltxcore.alike import alike, bytes_of, fingerprints, have_same_names, made_digest
from ltxcore.encoded.columns import Building
from ltxcore.encoded.indexed_entries import IndexedEntries
from ltxcore.encoded.joined_entries import JoinedEntries, joined_entries
from ltxcore.encoded.manifest_lines import Line
from ltxcore.members import Member, Members, place_of, roots_of, set_of
from ltxcore.protocols import Entry, Manifest

WIDE, TALL = Entry((16, 3, 2, 4), 24.0, kind="latents", modality="video"), Entry((16, 3, 4, 2), 24.0, kind="latents", modality="video")


def _entries(**facts: Entry) -> dict[str, Entry]:
    """Entries that differ in everything that samples do not share."""
    return {
        name: attrs.evolve(entry, bytes=len(name), fingerprint=f"made {name}", origin=f"{name}.mp4", checksum=f"sum {name}")
        for name, entry in facts.items()
    }


def _indexed(entries: dict[str, Entry]) -> IndexedEntries:
    building = Building()
    for name, entry in entries.items():
        building.add(Line(name, entry))
    return IndexedEntries(building.columns())


def test_what_samples_share_is_found_in_groups_in_the_order_of_their_names() -> None:
    entries = _entries(d=WIDE, a=WIDE, c=TALL, bee=WIDE)
    for each in (entries, _indexed(entries)):
        groups = [(entry.shape, entry.rate, entry.kind, [*names]) for entry, names in alike(each)]
        assert groups == [(WIDE.shape, 24.0, "latents", ["a", "bee", "d"]), (TALL.shape, 24.0, "latents", ["c"])]
        assert bytes_of(each) == 6
        assert list(fingerprints(each)) == ["made a", "made bee", "made c", "made d"]


@pytest.mark.parametrize(
    "other", [{"shape": (1,)}, {"rate": 25.0}, {"rate": None}, {"finite": False}, {"encoder": "x"}, {"kind": "mask"}, {"modality": ""},
              {"widths": (3,)}, {"column": "x"}], ids=str
)  # fmt: skip
def test_samples_that_differ_in_any_shared_fact_are_in_two_groups(other: dict[str, object]) -> None:
    entries = _entries(a=WIDE, b=attrs.evolve(WIDE, **other))
    for each in (entries, _indexed(entries)):
        assert [[*names] for _, names in alike(each)] == [["a"], ["b"]]


def test_a_group_of_a_manifest_has_the_roles_of_its_samples() -> None:
    video, sound = _entries(a=WIDE, b=WIDE, d=TALL), _entries(b=Entry((8, 26, 16)), c=Entry((8, 26, 16)))
    expected = [(["video"], ["a"]), (["video", "sound"], ["b"]), (["sound"], ["c"]), (["video"], ["d"])]
    for roles in (
        {"video": video, "sound": sound},
        {"video": _indexed(video), "sound": sound},
        {"video": _indexed(video), "sound": _indexed(sound)},
    ):
        manifest = Manifest(roles)
        assert manifest.samples == ("a", "b", "c", "d")
        assert [([*entries], [*names]) for entries, names in manifest.alike] == expected


def test_folders_with_the_same_samples_have_the_same_names() -> None:
    one, other = _entries(a=WIDE, b=WIDE), _entries(a=TALL, b=TALL)
    assert have_same_names(_indexed(one), _indexed(other))
    assert have_same_names(one, _indexed(other))
    assert not have_same_names(_indexed(one), _indexed(_entries(a=WIDE, c=WIDE)))
    assert not have_same_names(_indexed(one), _entries(a=WIDE))
    assert not have_same_names(_indexed(_entries(ab=WIDE, c=WIDE)), _indexed(_entries(a=WIDE, bc=WIDE)))


def test_a_hash_of_what_samples_were_made_from_is_the_same_wherever_the_entries_lie() -> None:
    entries = _entries(b=WIDE, a=TALL, c=WIDE)
    assert made_digest(entries) == made_digest(_indexed(entries))
    some = _indexed(entries).among(["a", "c"])
    assert made_digest(some) == made_digest({name: entries[name] for name in "ac"})
    changed = {**entries, "b": attrs.evolve(entries["b"], fingerprint="other")}
    assert len({made_digest(each) for each in (entries, changed, some, _indexed(changed))}) == 3


def test_the_entries_of_several_sets_are_one_mapping() -> None:
    sets = {"b": _entries(x=WIDE, y=TALL), "a": _entries(z=TALL, x=WIDE), "a-b": _entries(x=TALL)}
    expected = {f"{each}/{name}": entry for each, own in sets.items() for name, entry in own.items()}
    joined = joined_entries({each: _indexed(own) for each, own in sets.items()})
    plain = joined_entries(sets)
    assert isinstance(joined, JoinedEntries)
    assert isinstance(plain, dict)
    for each in (joined, plain):
        assert dict(each) == expected
        assert len(each) == 5
        assert "a/z" in each
        assert not {"a/y", "c/x", "x", 3} & {name for name in ("a/y", "c/x", "x", 3) if name in each}
        assert [[*names] for _, names in alike(each)] == [["a-b/x", "a/z", "b/y"], ["a/x", "b/x"]]
        assert bytes_of(each) == 5
    assert made_digest(joined) == made_digest(plain)
    assert list(joined) == sorted(expected)
    assert have_same_names(joined, plain)
    with pytest.raises(KeyError):
        joined["c/x"]


def test_members_know_their_set_and_its_root() -> None:
    members = Members({"one": (Path("first"), ["x", "y/z"]), "two": (Path("second"), ["x"]), "none": (Path("third"), [])})
    assert dict(members) == {
        "one/x": Member("one", Path("first"), "x"),
        "one/y/z": Member("one", Path("first"), "y/z"),
        "two/x": Member("two", Path("second"), "x"),
    }
    assert len(members) == 3
    assert set_of(members, "one/y/z") == "one"
    assert place_of(members, "one/y/z", Path("other")) == (Path("first"), "y/z")
    assert roots_of(members) == {"one": Path("first"), "two": Path("second")} == roots_of(dict(members))
    with pytest.raises(KeyError):
        members["two/y/z"]
