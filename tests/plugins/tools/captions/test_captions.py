"""Captions of every source are listed, searched and changed, and nothing beside them changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ltxcore.api.dataset import before_and_after
from ltxcore.cli.main import main


def ltx(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["captions", *map(str, arguments)])


def changed(*arguments: str | Path) -> str:
    result = ltx(*arguments, "--write")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def folder(path: Path, **captions: str | bytes | None) -> Path:
    """A folder of clips, with the captions of those that have one."""
    path.mkdir()
    for name, caption in captions.items():
        (path / f"{name}.mp4").touch()
        if caption is not None:
            (path / f"{name}.txt").write_bytes(caption.encode() if isinstance(caption, str) else caption)
    return path


def test_captions_are_listed_with_their_lengths_and_a_summary(tmp_path: Path) -> None:
    clips = folder(tmp_path / "clips", a="The video shows a café.\n", b="a cat,\na red cat", c=None, d=" \n", e="a  cat, a red cat")
    result = ltx(clips)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "a.mp4 (5 words): The video shows a café.",
        "b.mp4 (5 words): a cat,\\na red cat",
        "c.mp4: no caption",
        "d.mp4 (0 words): ",
        "e.mp4 (5 words): a  cat, a red cat",
        "",
        "5 samples",
        "Without a caption: 1; with an empty one: 1",
        "Words in a caption: 5 to 5, median 5",
        "Duplicates: 2 captions share 1 text",
        'Openings: "a cat, a" 2',
        "Stock phrases at the beginning: 1, which --strip-openings removes",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--search", "cat"), "ac"),
        (("--search", "cat", "-i"), "abc"),
        (("--search", "c.t"), ""),
        (("--search", "^a c.t", "--regex"), "a"),
        (("--without", "cat"), "bde"),
        (("--without", "cat", "--longer", "0"), "b"),
        (("--empty",), "de"),
        (("--longer", "2"), "c"),
        (("--shorter", "3", "--search", "cat"), "a"),
    ],
)
def test_filters_choose_captions_together(tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    clips = folder(tmp_path / "clips", a="a cat", b="A CAT", c="one more cat there", d="", e=None)
    result = ltx(clips, *arguments)
    assert "".join(line[0] for line in result.stdout.partition(" of 5 samples")[0].splitlines()[:-2]) == expected


def test_a_change_is_only_shown_until_it_is_to_be_written(tmp_path: Path) -> None:
    clips = folder(tmp_path / "clips", a="a cat sleeps\n", b="a dog", c="")
    result = ltx(clips, "--replace", "cat", "red fox", "--suffix", ", outside")
    assert result.stdout.splitlines() == [
        "a.mp4",
        "  - a [cat] sleeps",
        "  + a [red fox] sleeps[, outside]",
        "b.mp4",
        "  - a dog",
        "  + a dog[, outside]",
        "2 captions would change, 1 without a caption is left out (2 files)",
        "Nothing was written; --write saves these changes.",
    ]
    assert [(clips / f"{name}.txt").read_text() for name in "abc"] == ["a cat sleeps\n", "a dog", ""]


def test_only_what_is_near_a_change_is_shown() -> None:
    long = "word " * 40
    before, after = before_and_after(f"{long}cat {long}", f"{long}dog {long}")
    assert (before, after) == tuple(f"...{'word ' * 6}[{word}]{' word' * 6}..." for word in ("cat", "dog"))


def test_text_files_keep_their_marks_their_line_endings_and_the_space_around(tmp_path: Path) -> None:
    clips = folder(tmp_path / "clips", a=b"\xef\xbb\xbf a cat\r\nand a cat \r\n", b="no match\n", c="a cat")
    kept = (clips / "b.txt").stat().st_mtime_ns
    changed(clips, "--replace", "cat", "chát\nnoir")
    assert (clips / "a.txt").read_bytes() == "\ufeff a chát\r\nnoir\r\nand a chát\r\nnoir \r\n".encode()
    assert (clips / "c.txt").read_bytes() == "a chát\nnoir".encode()
    assert (clips / "b.txt").stat().st_mtime_ns == kept
    assert sorted(path.suffix for path in clips.iterdir()) == [".mp4"] * 3 + [".txt"] * 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{"size":  [1,2],\n "text": "a c\\u0061t" , "caption2": "a cat"}',
            '{"size":  [1,2],\n "text": "a d\\u00f3g" , "caption2": "a cat"}',
        ),
        ('\ufeff"a cat"\n', '\ufeff"a dóg"\n'),
        ('{"text": "a cat", "caption": "the cat"}', '{"text": "a cat", "caption": "the dóg"}'),
    ],
)
def test_a_caption_in_a_json_file_beside_a_clip_is_changed_there(tmp_path: Path, text: str, expected: str) -> None:
    clips = folder(tmp_path / "clips", a=None)
    (clips / "a.json").write_text(text)
    changed(clips, "--replace", "cat", "dóg")
    assert (clips / "a.json").read_text() == expected
    assert not (clips / "a.txt").exists()


TABLES = {
    "semicolons.csv": (
        'sep=;\r\nid;video;caption;note\r\n\r\n1;a.mp4;"a ""cat""; sits";"x;y"\r\n2;b.mp4;cat;"z"\r\n3;c.mp4;"dog";\r\n',
        'sep=;\r\nid;video;caption;note\r\n\r\n1;a.mp4;"a ""ké, ""q"";""; sits";"x;y"\r\n2;b.mp4;"ké, ""q"";";"z"\r\n3;c.mp4;"dog";\r\n',
    ),
    "marked.csv": (
        '\ufeff"caption",video\n"a\r\ncat",a.mp4\n  cat  ,"b.mp4"',
        '\ufeff"caption",video\n"a\r\nké, ""q"";",a.mp4\n"  ké, ""q"";  ","b.mp4"',
    ),
    "tabs.tsv": ("video\tcaption\na.mp4\tthe cat's\n", 'video\tcaption\na.mp4\t"the ké, ""q"";\'s"\n'),
    "lines.jsonl": (
        '{"video":"a.mp4",  "caption": "c\\u0061t é", "n": 1.50}\r\n\r\n {"caption":"cat","video":"b.mp4"}\r\n{"video": "c.mp4", "caption": null}',
        '{"video":"a.mp4",  "caption": "k\\u00e9, \\"q\\"; \\u00e9", "n": 1.50}\r\n\r\n {"caption":"ké, \\"q\\";","video":"b.mp4"}\r\n{"video": "c.mp4", "caption": null}',
    ),
    "list.json": (
        '[ {"video": "a.mp4", "caption": "cat", "more": {"caption": "cat"}}, {"video": "b.mp4","text2":"cat"} ]\n',
        '[ {"video": "a.mp4", "caption": "ké, \\"q\\";", "more": {"caption": "cat"}}, {"video": "b.mp4","text2":"cat"} ]\n',
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_in_a_dataset_file_only_the_captions_change(tmp_path: Path, name: str) -> None:
    before, after = TABLES[name]
    (tmp_path / name).write_bytes(before.encode())
    out = changed(tmp_path / name, "--replace", "cat", 'ké, "q";')
    assert (tmp_path / name).read_bytes() == after.encode()
    assert "(1 file)" in out
    assert out.endswith("The next `ltx preprocess` or `ltx run` encodes the changed captions.\n")
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_every_metadata_file_of_a_hugging_face_folder_is_changed(tmp_path: Path) -> None:
    for part in ("one", "two"):
        (tmp_path / f"set/{part}").mkdir(parents=True)
        for name in "ab":
            (tmp_path / f"set/{part}/{name}.mp4").touch()
        (tmp_path / f"set/{part}/metadata.csv").write_text(f"file_name,text\na.mp4,{part} a\nb.mp4,{part} b\n")
    assert ltx(tmp_path / "set").stdout.startswith("one/a.mp4 (2 words): one a\n")
    changed(tmp_path / "set", "--prefix", "ohwx ", "--search", "b")
    for part in ("one", "two"):
        assert (tmp_path / f"set/{part}/metadata.csv").read_text() == f"file_name,text\na.mp4,{part} a\nb.mp4,ohwx {part} b\n"


def test_a_prefix_a_suffix_and_openings_are_changed_once(tmp_path: Path) -> None:
    clips = folder(tmp_path / "clips", a="The video shows a cat", b="ohwx, a dog")
    edit = ("--strip-openings", "--prefix", "ohwx, ", "--suffix", ".")
    changed(clips, *edit)
    assert [(clips / f"{name}.txt").read_text() for name in "ab"] == ["ohwx, A cat.", "ohwx, a dog."]
    assert changed(clips, *edit) == "0 captions changed, 2 stay as they are\n"


def test_regular_expressions_have_groups_and_plain_text_has_none(tmp_path: Path) -> None:
    clips = folder(tmp_path / "clips", a=r"a Cat \1 (.)")
    changed(clips, "--replace", "(.)", r"\1", "--replace", r"\1", r"\n")
    assert (clips / "a.txt").read_text() == r"a Cat \n \n"
    changed(clips, "--regex", "-i", "--replace", r"(c)at.*", r"\1ow")
    assert (clips / "a.txt").read_text() == "a Cow"


def test_a_change_that_was_stopped_is_finished_and_does_not_happen_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = folder(tmp_path / "clips", a="cat", b="cat", c="cat", d="dog")
    edit = ("--replace", "cat", "black cat")
    full = [False]

    def replace(path: Path, target: Path, real: Any = Path.replace) -> Any:
        if full[0] and target.name == "b.txt":
            raise OSError(28, "No space left on device", str(path))
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    full[0] = True
    stopped = ltx(clips, *edit, "--write")
    assert stopped.exit_code == 2
    assert "cannot be written: No space left on device (1 of 3 files were)" in stopped.stderr
    assert "run the same command again: it finishes the change." in stopped.stderr
    full[0] = False
    assert "was stopped before its end; the same command with --write finishes it." in ltx(clips).stderr
    assert changed(clips, *edit) == "Finished the change that was stopped: 2 files written.\n"
    assert [(clips / f"{name}.txt").read_text() for name in "abcd"] == ["black cat"] * 3 + ["dog"]
    full[0] = True
    assert ltx(clips, *edit, "--write").exit_code == 2
    full[0] = False
    (clips / "c.txt").write_text("mine")
    other = ltx(clips, "--prefix", "x ", "--write")
    assert "was changed by another program meanwhile, and is left as it is" in other.stderr
    changed(clips, "--prefix", "x ")
    assert [(clips / f"{name}.txt").read_text() for name in "abcd"] == ["x black black cat"] * 2 + ["x mine", "x dog"]


def test_a_record_of_something_else_is_refused(tmp_path: Path) -> None:
    clips = folder(tmp_path / "clips", a="cat")
    (clips / ".captions.json").write_text("[1]")
    assert "is not a record of `ltx captions`" in ltx(clips, "--prefix", "x", "--write").stderr
    assert (clips / "a.txt").read_text() == "cat"


@pytest.mark.parametrize("place", ["../mine.txt", "{}/mine.txt", "link/mine.txt"])
def test_a_record_that_came_with_a_dataset_changes_no_file_elsewhere(tmp_path: Path, place: str) -> None:
    clips = folder(tmp_path / "clips", a="cat")
    (clips / "link").symlink_to(tmp_path)
    files = {"a.txt": [hashlib.sha256(b"cat").hexdigest(), "dog"], place.format(tmp_path): [hashlib.sha256(b"").hexdigest(), "theirs"]}
    (clips / ".captions.json").write_text(json.dumps({"what": "x", "files": files}))
    assert "would change a file outside the folder of the dataset" in ltx(clips, "--prefix", "x", "--write").stderr
    assert not (tmp_path / "mine.txt").exists()
    assert (clips / "a.txt").read_text() == "cat"


def test_an_encoded_set_whose_captions_changed_is_named(tmp_path: Path) -> None:
    clips = folder(tmp_path / "clips", a="cat")
    (tmp_path / "clips.precomputed/conditions").mkdir(parents=True)
    told = f"{tmp_path / 'clips.precomputed'} holds features of the old captions; the next `ltx preprocess`"
    assert told in changed(clips, "--prefix", "x")


def test_without_permission_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = folder(tmp_path / "clips", a="cat", b="cat")

    def refuse(path: Path, target: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "replace", refuse)
    result = ltx(clips, "--prefix", "x", "--write")
    assert result.exit_code == 2
    assert f"{clips / 'captions.json'}: cannot be written: Permission denied" in result.stderr.replace("/.captions", "/captions")
    assert (
        "Check that you have permission to write to this path, then run the same command again: nothing has changed so far."
        in result.stderr
    )
    assert {path.name: path.read_text() for path in clips.glob("*.txt")} == {"a.txt": "cat", "b.txt": "cat"}


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("video,caption\na.mp4,cat\n", ("--write",), "--write needs a change"),
        ("video,caption\na.mp4,cat\n", ("--search", ""), "--search needs a text to find."),
        ("video,caption\na.mp4,cat\n", ("--replace", "", "x"), "--replace needs a text to find."),
        ("video,caption\na.mp4,cat\n", ("--regex", "--search", "("), '--search: "(" is not a regular expression: '),
        (
            "video,caption\na.mp4,cat\n",
            ("--regex", "--replace", "a", r"\1"),
            '--replace: "\\1" cannot replace "a": invalid group reference 1',
        ),
        ("video,caption\na.mp4,cat\n", ("--regex", "--replace", "a", r"\0"), "the caption of a.mp4: would contain a zero byte"),
        ("video,caption\na.mp4,cat\n", ("--prefix", "\udc80"), "A text on the command line is not UTF-8."),
        ("video,caption\na.mp4,cat\n", ("--caption-column", "captoin"), 'has no column "captoin"'),
        ("video,note\na.mp4,cat\n", (), "has no caption column"),
        ('video,caption\na.mp4,"cat\n', (), "is not CSV"),
    ],
)
def test_mistakes_are_refused_in_words(tmp_path: Path, text: str, arguments: tuple[str, ...], expected: str) -> None:
    (tmp_path / "set.csv").write_text(text)
    result = ltx(tmp_path / "set.csv", *arguments)
    assert (result.exit_code, expected in result.stderr) == (2, True), result.output


def test_captions_that_are_not_text_are_named_and_the_others_changed(tmp_path: Path) -> None:
    rows = [{"video": "a.mp4", "caption": "cat"}, {"video": "b.mp4", "caption": 5}, {"video": "c.mp4", "caption": "\ud800"}]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = ltx(tmp_path / "set.jsonl", "--prefix", "a ", "--write")
    assert result.exit_code == 2
    assert f'{tmp_path / "set.jsonl"}:2: its "caption" is 5, not text' in result.stderr
    assert f'{tmp_path / "set.jsonl"}:3: its "caption" contains an unpaired surrogate' in result.stderr
    assert (tmp_path / "set.jsonl").read_text().splitlines()[0] == '{"video": "a.mp4", "caption": "a cat"}'


def test_a_parquet_file_is_refused(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"video": ["a.mp4"], "caption": ["cat"]}), tmp_path / "set.parquet")
    assert ltx(tmp_path / "set.parquet", "--search", "cat").stdout.startswith("a.mp4 (1 word): cat\n")
    assert "is a Parquet file, and ltx cannot change captions in Parquet files" in ltx(tmp_path / "set.parquet", "--prefix", "a ").stderr


def test_a_link_that_leads_in_a_circle_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "set.csv").symlink_to("set.csv")
    result = ltx(tmp_path / "set.csv", "--prefix", "a ", "--write")
    assert (result.exit_code, "this dataset file does not exist" in result.stderr) == (2, True)


def test_a_dataset_file_that_is_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("video,caption\na.mp4,cat\n")
    (tmp_path / "set.csv").symlink_to("real.csv")
    changed(tmp_path / "set.csv", "--prefix", "a ")
    assert (tmp_path / "set.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "video,caption\na.mp4,a cat\n"


def test_each_of_several_captions_is_listed_and_changed_and_the_others_stay(tmp_path: Path) -> None:
    text = '{"video": "a.mp4", "caption": ["a cat", "the  dog"],   "more": 1}\n{"caption": "a cat", "video": "b.mp4"}\n'
    (tmp_path / "set.jsonl").write_text(text)
    assert ltx(tmp_path / "set.jsonl", "--search", "a").stdout.splitlines()[:4] == [
        "a.mp4, caption 1 (2 words): a cat",
        "b.mp4 (2 words): a cat",
        "",
        "2 of 3 captions",
    ]
    told = changed(tmp_path / "set.jsonl", "--replace", "dog", "hound")
    assert told.startswith("1 caption changed, 2 stay as they are (1 file)\n")
    assert (tmp_path / "set.jsonl").read_text() == text.replace("dog", "hound")


def test_the_captions_in_a_json_file_beside_a_clip_are_changed_there(tmp_path: Path) -> None:
    clips = folder(tmp_path / "clips", a=None, b=None)
    (clips / "a.json").write_text('{"n": 1, "caption": ["a cat", "a dog"]}')
    (clips / "b.json").write_text(' ["one", "two"] ')
    changed(clips, "--prefix", "ohwx ")
    assert (clips / "a.json").read_text() == '{"n": 1, "caption": ["ohwx a cat", "ohwx a dog"]}'
    assert (clips / "b.json").read_text() == ' ["ohwx one", "ohwx two"] '
