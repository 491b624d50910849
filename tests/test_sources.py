"""Whatever the code says that it has from elsewhere can be looked up: a heading of these docs, a paper, a published standard, or a public page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pages

ROOT = Path(__file__).parents[1]
FOLDERS = ("ltxcore", "plugins", "examples", "tests", "docs")
CODE = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path != Path(__file__))
ARITHMETIC = ROOT / "docs" / "explanation" / "arithmetic.md"
MODEL_FILES = ROOT / "docs" / "explanation" / "model-files.md"

SOURCE = re.compile(r"(?<!class )\bSources?: (?P<text>\w.*?)(?=\n\s*\n|\"\"\"|\Z)", re.DOTALL)
"""What a docstring or comment has from elsewhere, to the end of the paragraph."""

PAPER = re.compile(r"arXiv \d{4}\.\d{4,5}\b")
ADDRESS = re.compile(r"https://[\w-]+(\.[\w-]+)+/\S+")

ABSENT = re.compile(
    r"design[ ]section|model[ -]facts|model[-]configs|reference[ -]behaviour|training[-]modes\.txt|deepspeed[-]facts", re.IGNORECASE
)
"""Documents that no reader of this repository has."""

BY_LIBRARIES = {"gradient-clipping", "adamw", "learning-rate"}
"""Formulas that torch computes, so that no code here cites them."""


def cited_headings(text: str) -> Iterator[tuple[str, str]]:
    """The pages and headings that a text names."""
    for named in pages.NAMED_HEADINGS.findall(text):
        page, *anchors = re.split(r"(?:, )?#", named)
        yield from ((page, anchor) for anchor in anchors)


def standards() -> list[str]:
    """The documents that the page on arithmetic links in its list of standards."""
    return re.findall(r"\[([^\]]+)\]\(https://", ARITHMETIC.read_text().partition("\n## Standards\n")[2])


def formulas() -> dict[str, str]:
    """The text below each heading that has a formula."""
    parts = re.split(r"^### (.*)$", ARITHMETIC.read_text().partition("\n## Standards\n")[0], flags=re.MULTILINE)
    return {heading: text.partition("\n## ")[0] for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


# ---------------------------------------------------------------- the code


def test_every_source_names_something_that_can_be_looked_up() -> None:
    sources = [(path, found["text"]) for path in CODE for found in SOURCE.finditer(path.read_text())]
    known = standards()
    lost = [
        f"{path.relative_to(ROOT)}: {text}"
        for path, text in sources
        if not (pages.NAMED_HEADINGS.search(text) or PAPER.search(text) or ADDRESS.search(text) or any(name in text for name in known))
    ]
    assert lost == []
    assert len(sources) > 100


def test_every_heading_that_the_code_names_is_there() -> None:
    named = {(page, anchor, path) for path in CODE for page, anchor in cited_headings(path.read_text())}
    known = {page: pages.headings(ROOT / page) for page in {page for page, _, _ in named}}
    assert [f"{path.relative_to(ROOT)}: {page}#{anchor}" for page, anchor, path in sorted(named) if anchor not in known[page]] == []


def test_no_file_names_a_document_that_nobody_has() -> None:
    named = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in {".py", ".md", ".toml", ".json", ".jsonl", ".yaml", ".txt"}
        for found in ABSENT.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert named == []


def test_every_module_that_a_docstring_names_is_there() -> None:
    core = ROOT / "ltxcore"
    packages = "|".join(sorted(path.parent.name for path in core.glob("*/__init__.py")))
    named = re.compile(rf"`(?:ltxcore\.)?((?:{packages})(?:\.(?!json`)[A-Za-z_]\w*)+)(?:\(\))?`")
    lost = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in CODE
        for name in named.findall(path.read_text())
        if not _is_there(core, name.split("."))
    ]
    assert lost == []


def _is_there(folder: Path, parts: list[str]) -> bool:
    """Whether a dotted name leads to a module, and what follows it stands in that module."""
    first, *rest = parts
    if rest and (folder / first).is_dir():
        return _is_there(folder / first, rest)
    module = folder / f"{first}.py"
    return (folder / first).is_dir() or (module.is_file() and all(re.search(rf"\b{name}\b", module.read_text()) for name in rest))


# ---------------------------------------------------------------- the pages


def test_formulas_are_numbered_in_order() -> None:
    blocks = [block for text in formulas().values() for block in re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
    numbers = [re.findall(r" \((\d+)\)$", block.splitlines()[0]) for block in blocks]
    assert numbers == [[str(number)] for number in range(1, len(formulas()) + 1)]


def test_every_formula_says_where_it_is_from() -> None:
    sources = {heading: text.partition("\nSource: ")[2] for heading, text in formulas().items()}
    named = re.compile(r"\]\((https://|#|[\w-]+\.md)|\bthis project\b|\bLTX-2 release\b")
    assert [heading for heading, source in sources.items() if not named.search(re.sub(r"\s+", " ", source))] == []


def test_every_formula_is_cited_by_the_code() -> None:
    cited = {anchor for path in CODE if path.is_relative_to(ROOT / "ltxcore") or path.is_relative_to(ROOT / "plugins")
             for _, anchor in cited_headings(path.read_text())}  # fmt: skip
    named = {anchor for anchor, heading in pages.headings(ARITHMETIC).items() if heading in formulas()}
    assert named - cited == BY_LIBRARIES


@pytest.mark.parametrize("page", [ARITHMETIC, MODEL_FILES], ids=lambda page: page.name)
def test_every_address_of_a_page_is_well_formed(page: Path) -> None:
    found = re.findall(r"\]\((http[^)]*)\)", page.read_text())
    assert found
    assert [address for address in found if not ADDRESS.fullmatch(address)] == []
