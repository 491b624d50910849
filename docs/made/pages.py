"""The pages of docs/ that are made from the code: `python docs/made/pages.py` writes them, and a test compares."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from ltxcore import adapters, api, columns, exporters, hookspecs, objective_types, protocols, quantizers, sources
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
    "ltx_objectives": objective_types.ObjectiveType,
    "ltx_sigma_samplers": protocols.SigmaSampler,
    "ltx_adapters": adapters.AdapterType,
    "ltx_optimizers": protocols.OptimizerType,
    "ltx_schedules": protocols.ScheduleType,
    "ltx_sources": sources.SourceType,
    "ltx_quantizers": quantizers.QuantizerType,
    "ltx_exporters": exporters.ExporterType,
    "ltx_columns": columns.ColumnType,
    "ltx_reference_filters": protocols.ReferenceFilter,
    "ltx_trackers": protocols.Tracker,
    "ltx_commands": None,
}
"""The protocol of what each hook names."""

WITHOUT_DOCSTRINGS = {
    "MODALITIES": "The names of the modalities.",
    "__version__": "The version of ltx.",
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
    "ltx_objectives": (objective_types.Pass, objective_types.Prepared),
    "ltx_adapters": (adapters.AdapterSettings, adapters.AdapterShape),
    "ltx_optimizers": (protocols.ParameterGroup,),
    "ltx_sources": (sources.Table, sources.Row),
    "ltx_exporters": (exporters.AdaptedModule,),
    "ltx_columns": (columns.Cell, columns.Target),
    "ltx_commands": (api.LazyCommand,),
}
"""What one meets when writing such a thing, in the order one meets it."""


def hooks_page() -> str:
    """docs/reference/hooks.md."""
    blocks = [INTRODUCTION]
    sections: set[Any] = set()
    for hook in HOOKS.values():
        blocks.append(f"## `{hook}`\n")
        blocks.append(f"{_about(getattr(hookspecs, hook))}\n")
        protocol = HOOKED[hook]
        for described in (*([protocol] if protocol else ()), *BEHIND.get(hook, ())):
            blocks += _described(described)
            sections.add(described)
    for module in (api, *(importlib.import_module(f"ltxcore.api.{found.name}") for found in pkgutil.iter_modules(api.__path__))):
        blocks += [f"## `{module.__name__}`\n", f"{_about(module)}\n", _table(("name", "what it is"), _offered(module, sections))]
    return "\n".join(blocks).rstrip() + "\n"


def _offered(module: ModuleType, sections: Collection[Any]) -> Iterator[tuple[str, str]]:
    """The names that a module offers. What has no section of its own has its signature, its arguments and its fields here."""
    for name in module.__all__:
        value = getattr(module, name)
        about = _with_links(inspect.getdoc(value) or "").partition("\n\n")[0].replace("\n", " ")
        if name in WITHOUT_DOCSTRINGS:
            yield f"`{name}`", WITHOUT_DOCSTRINGS[name]
        elif value in sections:
            yield f"[`{name}`](#{name.lower()})", about
        elif _is_protocol(value) or _is_table(value):
            yield f"`{name}`", about
        else:
            yield f"`{_signature(name, value)}`", _flat(value)


def _is_protocol(value: Any) -> bool:
    return bool(getattr(value, "_is_protocol", False))


def _is_table(value: Any) -> bool:
    """Whether the fields of a class are keys of a run file, of which the page on run files has a list."""
    return inspect.isclass(value) and attrs.has(value) and any("help" in field.metadata for field in attrs.fields(value))


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


class _Text(str):
    """A text that is shown without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _shown(value: Any) -> Any:
    """An annotation or a default as it is written in code."""
    if value is attrs.NOTHING:  # a default that a function makes
        return _Text("...")
    if inspect.isclass(value) and value is not inspect.Parameter.empty:
        return _Text(value.__name__)
    return _Text(value) if isinstance(value, str) else value


def _signature(name: str, called: Callable[..., Any]) -> str:
    """How a function is called, or an object of a class is made."""
    whole = inspect.signature(called)
    parameters = [
        each.replace(
            annotation=_shown(each.annotation),
            default=each.default if isinstance(each.default, str) else _shown(each.default),
        )
        for each in whole.parameters.values()
        if each.name != "self"
    ]
    returned = inspect.Signature.empty if inspect.isclass(called) else _shown(whole.return_annotation)
    return f"{name}{inspect.Signature(parameters, return_annotation=returned)}"


def _about(what: Any) -> str:
    """A docstring as Markdown: its attributes and arguments as a list."""
    text = inspect.getdoc(what) or ""
    text = re.sub(r"^(Attributes|Args|Raises):$", "", _with_links(text), flags=re.MULTILINE)
    text = re.sub(r"^    (\w+): (.*)$", r"- `\1`: \2", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text)


def _flat(function: Any) -> str:
    """A docstring on one line."""
    text = re.sub(r"^    (\w+): ", r"`\1`: ", _with_links(inspect.getdoc(function) or ""), flags=re.MULTILINE)
    parts = [re.sub(r"\s+", " ", part) for part in text.split("\n\n")]
    told = " ".join(filter(None, parts)).replace("Args: ", "Takes ").replace("Raises: ", "Raises ")
    return told.replace("Attributes: ", "Has ").replace("Returns: ", "Returns ")


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
