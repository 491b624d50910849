"""YAML is read as plain values with their lines; nothing in it is made or run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from ltxcore.errors import ConfigError
from ltxplugins.tools.convert.kinds import plain
from ltxplugins.tools.convert.tree import Scalar, Table, parse

REMEDY = "\n    Remove the tag, and write a plain value."


def table(text: str) -> Table:
    found = parse(text, "old.yaml")
    assert isinstance(found, Table)
    return found


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        parse(text, "old.yaml")
    return str(error.value)


def test_values_keep_their_line_and_how_they_were_written() -> None:
    found = table("a: 1e-4\nb: no\nc: 1:30\nd: 2024-02-03\ne: '7'\nf: ~\n")
    shown = {key: (value.line, value.text, value.value) for key, value in found.values.items() if isinstance(value, Scalar)}
    assert {key: value[:2] for key, value in shown.items()} == {
        "a": (1, "1e-4"),
        "b": (2, "no"),
        "c": (3, "1:30"),
        "d": (4, "2024-02-03"),
        "e": (5, "7"),
        "f": (6, "~"),
    }
    assert (shown["a"][2], shown["b"][2], shown["c"][2], shown["e"][2], shown["f"][2]) == ("1e-4", False, 90, "7", None)


def test_what_only_looks_like_a_date_is_text() -> None:
    found = table("a: 2024-02-31\n").values["a"]
    assert found == Scalar(1, "2024-02-31", "2024-02-31")


def test_anchors_and_merged_tables_are_written_out_and_own_keys_come_first() -> None:
    text = "base: &base {p: 1, q: 2}\nother: &other {q: 5, r: 6}\nown: {<<: [*base, *other], p: 9}\nlist: *base\n"
    assert plain(table(text)) == {
        "base": {"p": 1, "q": 2},
        "other": {"q": 5, "r": 6},
        "own": {"p": 9, "q": 2, "r": 6},
        "list": {"p": 1, "q": 2},
    }


def test_of_a_key_that_is_written_twice_the_last_counts() -> None:
    found = table("a: 1\nb: 2\na: 3\n")
    assert (plain(found), found.doubled, found.lines["a"]) == ({"a": 3, "b": 2}, ("a",), 3)


OBJECT = "asks for more than a plain value; it was refused, and nothing was executed"


@pytest.mark.parametrize(
    ("tagged", "tag", "remedy"),
    [
        ("!!python/object/apply:os.system ['touch MARK']", "!!python/object/apply:os.system", REMEDY),
        ("!!python/object/new:pathlib.Path ['x']", "!!python/object/new:pathlib.Path", REMEDY),
        ("!!python/name:os.system", "!!python/name:os.system", REMEDY),
        (
            "!!python/tuple [960, 544, 89]",
            "!!python/tuple",
            "\n    Remove the tag: what follows it is then a list, which means the same here.",
        ),
        ("!mine {x: 1}", "!mine", REMEDY),
        ("!!binary aGVsbG8=", "!!binary", REMEDY),
        ("!!set {x, y}", "!!set", REMEDY),
    ],
)
def test_a_tag_that_makes_an_object_is_refused_with_a_sentence(tagged: str, tag: str, remedy: str) -> None:
    assert refused(f"a: 1\nb: {tagged}\n") == f"old.yaml:2: the tag {tag} {OBJECT}{remedy}"


def test_what_a_tag_asks_for_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "ran"
    text = f"model: !!python/object/apply:os.mkdir ['{mark}']\n"
    yaml.unsafe_load(text)  # the file does run where it is loaded without care
    mark.rmdir()
    monkeypatch.setattr(yaml.constructor.UnsafeConstructor, "make_python_instance", lambda *_: pytest.fail("made an object"))
    refused(text)
    assert not mark.exists()


def test_what_is_no_yaml_is_refused() -> None:
    assert refused("a: {\n") == "old.yaml:2: is not YAML: expected the node content, but found '<stream end>'"
    assert refused("a: b\n---\nc: d\n") == "old.yaml:2: is not YAML: but found another document"
    assert refused("a: *nowhere\n") == "old.yaml:1: is not YAML: found undefined alias 'nowhere'"
    assert refused("a: \x01\n") == "old.yaml: is not YAML: unacceptable character #x0001: special characters are not allowed"
    assert refused("# nothing\n") == "old.yaml: is empty\n    Name a configuration of another trainer."
    assert refused("? [a, b]\n: c\n") == "old.yaml:1: a key is not a plain word\n    Write a word before the colon."
    assert refused("<<: 3\na: 1\n") == "old.yaml:1: << refers to something that is not a table\n    Name an anchor of a table."


def test_a_file_that_would_grow_without_end_is_refused() -> None:
    assert refused("a: &a [*a]\n") == "old.yaml:1: holds an alias that contains itself\n    Write the value out."
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert refused("\n".join(lines)) == (
        "old.yaml:1: holds more than 20,000 values\n    Write them out instead of using aliases of aliases."
    )
    assert refused("[" * (10 * sys.getrecursionlimit())) == "old.yaml: is nested too deeply to be a configuration"


@pytest.mark.parametrize("number", ["0x" + "f" * 20_000, str(2**64), str(-(2**63) - 1)], ids=["hexadecimal", "64 bits", "below 0"])
def test_a_number_that_toml_does_not_hold_is_refused_at_its_line(number: str) -> None:
    assert refused(f"a: 1\nb: {number}\n") == (
        "old.yaml:2: a whole number is too large: it has more than 64 bits\n    Write a smaller one."
    )
