"""The pages of docs/ that are made from the code: `python docs/made/pages.py` writes them, and a test compares."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ltxcore import api, hookspecs, protocols, quantizers, sources
from ltxcore.cli.describe import key_lists, key_rows
from ltxcore.encode.outdated import CORRECTIONS
from ltxcore.registry import HOOKS, load

DOCS = Path(__file__).parents[1]
HOOKS_PAGE = DOCS / "reference" / "hooks.md"
CONDITIONS = DOCS / "conditions"
UPGRADING = DOCS / "how-to" / "upgrade.md"
NAMED_HEADINGS = re.compile(r"docs/[\w/.-]+\.md#[\w-]+(?:, #[\w-]+)*")
"""A page with one heading or several, as docstrings cite them: `docs/explanation/arithmetic.md#velocity`, and `, #noise-of-a-token` behind it."""

BEGIN, END = "<!-- made by docs/made/pages.py -->", "<!-- end -->"

INTRODUCTION = """\
# Hooks

<!-- made by docs/made/pages.py -->

What a plugin can add, and the rules that it must follow. A package implements hooks in a module that an entry point of
the group `ltx` names. Each hook takes no arguments, returns a mapping from names, and changes nothing. See
[Write a condition](../plugins/README.md).

```toml
[project.entry-points.ltx]
my_plugin = "my_package.my_module"
```
"""

HOOKED: dict[str, type | None] = {
    "ltx_conditions": protocols.Condition,
    "ltx_strategies": protocols.StrategyType,
    "ltx_objectives": protocols.ObjectiveType,
    "ltx_sigma_samplers": protocols.SigmaSampler,
    "ltx_optimizers": protocols.OptimizerType,
    "ltx_schedules": protocols.ScheduleType,
    "ltx_sources": sources.SourceType,
    "ltx_quantizers": quantizers.QuantizerType,
    "ltx_reference_filters": protocols.ReferenceFilter,
    "ltx_trackers": protocols.Tracker,
    "ltx_commands": None,
}
"""The protocol of what each hook names."""

WITHOUT_DOCSTRINGS = {
    "MODALITIES": "The names of the modalities.",
    "SOUND_MARGIN": "Seconds that codecs add to or take from the end of a track: sounds that differ by no more are as long as each other.",
    "hookimpl": "Marks a function that is a hook.",
}
"""What is said of names of the API whose values cannot say it."""

BEHIND: dict[str, tuple[type, ...]] = {
    "ltx_conditions": (api.LatentState, api.Grid, api.Inputs, api.Medium, api.Role, api.DescribesLora, api.Geometry),
    "ltx_strategies": (
        api.Strategy,
        api.Setting,
        api.Source,
        api.Batch,
        api.StoredLatents,
        api.Text,
        api.ModelInput,
        api.Draws,
        api.Manifest,
        api.Entry,
    ),
    "ltx_objectives": (protocols.Pass, protocols.Prepared),
    "ltx_optimizers": (protocols.ParameterGroup,),
    "ltx_sources": (sources.Table, sources.Row),
    "ltx_commands": (api.LazyCommand,),
}
"""What one meets when writing such a thing, in the order one meets it."""


def hooks_page() -> str:
    """docs/reference/hooks.md."""
    blocks = [INTRODUCTION]
    for hook in HOOKS.values():
        blocks.append(f"## `{hook}`\n")
        blocks.append(f"{_about(getattr(hookspecs, hook))}\n")
        protocol = HOOKED[hook]
        for described in (*([protocol] if protocol else ()), *BEHIND.get(hook, ())):
            blocks += _described(described)
    for module in (api, *(importlib.import_module(f"ltxcore.api.{found.name}") for found in pkgutil.iter_modules(api.__path__))):
        blocks += [f"## `{module.__name__}`\n", f"{_about(module)}\n", _table(("name", "what it is"), _offered(module))]
    return "\n".join(blocks).rstrip() + "\n"


def _offered(module: ModuleType) -> Iterator[tuple[str, str]]:
    for name in module.__all__:
        about = _with_links(inspect.getdoc(getattr(module, name)) or "").partition("\n\n")[0].replace("\n", " ")
        yield f"`{name}`", WITHOUT_DOCSTRINGS.get(name, about)


def _described(cls: type) -> Iterator[str]:
    yield f"### `{cls.__name__}`\n"
    yield f"{_about(cls)}\n"
    for name, member in vars(cls).items():
        if name.startswith("_") and name != "__call__":
            continue
        if isinstance(member, property) and member.fget is not None and member.fget.__doc__:
            yield f"- `{name}`: {_flat(member.fget)}"
        elif isinstance(member, classmethod) or inspect.isfunction(member):
            function: Callable[..., Any] = getattr(cls, name)
            yield f"- `{_signature(name, function)}`: {_flat(function)}"
    yield ""


def _signature(name: str, function: Callable[..., Any]) -> str:
    text = str(inspect.signature(function)).replace("'", "").removeprefix("(self, ").removeprefix("(self")
    return f"{name}({text}" if not text.startswith("(") else f"{name}{text}"


def _about(what: Any) -> str:
    """A docstring as Markdown: its attributes and arguments as a list."""
    text = inspect.getdoc(what) or ""
    text = re.sub(r"^(Attributes|Args|Raises):$", "", _with_links(text), flags=re.MULTILINE)
    text = re.sub(r"^    (\w+): (.*)$", r"- `\1`: \2", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text)


def _flat(function: Any) -> str:
    """A docstring on one line."""
    parts = [re.sub(r"\s+", " ", part) for part in _with_links(inspect.getdoc(function) or "").split("\n\n")]
    return " ".join(filter(None, parts)).replace("Args: ", "Takes ").replace("Raises: ", "Raises ")


def _with_links(text: str) -> str:
    """With the headings of these docs that it names as links from a page of the reference."""

    def linked(found: re.Match[str]) -> str:
        page, *anchors = re.split(r"(?:, )?#", found[0])
        names = headings(DOCS.parent / page)
        return ", ".join(f"[{names[anchor]}](../{page.removeprefix('docs/')}#{anchor})" for anchor in anchors) + "."

    return NAMED_HEADINGS.sub(linked, text)


def headings(page: Path) -> dict[str, str]:
    """The headings of a page by what follows `#` in a link to them."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"): heading for heading in found}


def condition_keys(name: str) -> str:
    """The tables of keys on a condition's page."""
    named = load(disabled=()).get("condition", name)
    blocks = []
    for head, keys in key_lists(named):
        header, *rows = key_rows(keys)
        blocks += [f"{head}\n", _table([cell.lower() for cell in header], [(f"`{row[0]}`", *row[1:]) for row in rows])]
    return "\n".join(blocks)


def with_keys(text: str, name: str) -> str:
    """A condition's page with its tables of keys."""
    return between(text, BEGIN, END, condition_keys(name))


def with_corrections(text: str) -> str:
    """The page on upgrading with the list of what is read otherwise than by 0.1.0."""
    return between(text, BEGIN, END, "".join(f"- {told[:1].upper()}{told[1:]}.\n" for told in sorted(CORRECTIONS.values())))


def between(text: str, begin: str, end: str, made: str) -> str:
    """A page with what is made for it, whole lines, between two of its own."""
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{made}\n{end}{after}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"

    head = list(head)
    return line(head) + line(["---"] * len(head)) + "".join(line(row) for row in rows)


def condition_pages() -> Iterator[Path]:
    """A page for each built-in condition."""
    for name, named in sorted(load(disabled=()).of_kind("condition").items()):
        if named.origin.distribution == "ltx":
            yield CONDITIONS / f"{name}.md"


def main() -> None:
    HOOKS_PAGE.parent.mkdir(exist_ok=True)
    HOOKS_PAGE.write_text(hooks_page())
    for path in condition_pages():
        path.write_text(with_keys(path.read_text(), path.stem))
    UPGRADING.write_text(with_corrections(UPGRADING.read_text()))


if __name__ == "__main__":
    sys.exit(main())
