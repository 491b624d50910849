"""Check that an unfinished run matches a run file: the same values and the same global batch, on any number of processes.

A saved run file may be older than some keys of run files. The saved file is compared as it would be written now: a missing key
gets its present default or, if runs behaved differently then, the value for that behavior. The files of checkpoints are checked
in `ltxcore.runs.checkpoint`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import tomli

from ltxcore.config.load import HEADER, LoadedRun, text_of
from ltxcore.config.parts import evolved
from ltxcore.config.reading import Unreadable, spelled
from ltxcore.config.render import render
from ltxcore.config.structure import structure
from ltxcore.config.structurer import NO_SUCH_KEY
from ltxcore.config.toml import parsed_toml
from ltxcore.errors import ConfigError, Problem
from ltxcore.files import is_file
from ltxcore.modality_tables import MARKER

if TYPE_CHECKING:
    from ltxcore.models.backbone import ModelInfo

RUN_FILE = "run.toml"
"""The resolved run file in an output folder."""

ACCUMULATION = "gradient_accumulation_steps"


@attrs.frozen
class Younger:
    """A key that was added after some runs began, with a default that does not describe those runs.

    An unfinished run keeps its initial behavior, unless the run file sets the key.

    Attributes:
        path: the path of the key.
        before: the value that describes the older runs.
        matters: tells whether the key makes a difference for a model.
        told: the note to the user if an unfinished run does not follow the default.
    """

    path: tuple[str, ...]
    before: Any
    matters: Callable[[ModelInfo], bool]
    told: str


_NO_MARKER = "continues without the first-frame marker, as it began; a new run would use the marker"
YOUNGER = tuple(
    Younger((*table, MARKER), False, lambda info: info.takes_marker, _NO_MARKER)
    for table in (("training_strategy", "video"), ("training_strategy",))
)


@attrs.frozen(eq=False)
class Begun:
    """A run file, together with the run file that the run in its output folder saved.

    Attributes:
        loaded: the run file, with the values that the run in the folder must keep.
        saved: the saved run file, as it would be written now; "" if no run file was saved.
        notes: notes on the values that the run keeps although the defaults have changed.
        broken: the reason why the saved run file cannot be read; None if it can.
    """

    loaded: LoadedRun
    saved: str = ""
    notes: tuple[str, ...] = ()
    broken: Problem | None = None


def begun(loaded: LoadedRun, path: Path, info: ModelInfo | None) -> Begun:
    """Compare a run file with a saved run file.

    Args:
        loaded: the run file.
        path: the path of the saved run file.
        info: the facts about the model; None if the model is not known.
    """
    if not os.path.lexists(path):
        return Begun(loaded)
    try:
        text = text_of(path)
        saved, today = parsed_toml(text, path), resolved(loaded)
    except ConfigError as error:
        return Begun(loaded, broken=error.problems[0])
    if today is None:
        return Begun(loaded, text)
    now, notes = tomli.loads(today), []
    for key in YOUNGER:
        then, here = _table(saved, key.path[:-1]), _table(now, key.path[:-1])
        name = key.path[-1]
        if info is None or not key.matters(info) or then is None or here is None or name not in here:
            continue
        value = then.setdefault(name, key.before)
        if value == key.before != here[name] and not loaded.places.has(key.path):
            loaded = attrs.evolve(loaded, config=_with(loaded.config, key.path, value))
            notes.append(f"{key.told} ({spelled(key.path)} = {str(value).lower()})")
    if (was := _divided(saved)) != (now_is := loaded.config.engine.sequence_parallel):
        notes.append(
            f"had engine.sequence_parallel = {was}, and continues with {now_is}: losses then agree to about 1e-5, but not to the last bit"
        )
    return Begun(loaded, _as_now(saved, loaded) or text, tuple(notes))


def resolved(loaded: LoadedRun) -> str | None:
    """Return the text of the run file with every value spelled out; None if some values are unknown (`config.parts`)."""
    try:
        return loaded.resolved()
    except Unreadable:
        return None


def _as_now(saved: Mapping[str, Any], loaded: LoadedRun) -> str:
    """Return a saved run file with all present keys; "" if it cannot be read as a run file, or has keys that no longer exist."""
    config, mistakes = structure(saved, loaded.registry, loaded.path.absolute().parent, elsewhere=saved.keys())
    known = config is not None and all(mistake.what != NO_SUCH_KEY for mistake in mistakes)
    return f"{HEADER}\n{render(config)}" if config is not None and known else ""


def _table(tables: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any] | None:
    found: Any = tables
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, dict) else None


def _with(table: Any, path: Sequence[str], value: Any) -> Any:
    """Return a table with a new value for a key, which may be in a nested table."""
    inner = value if len(path) == 1 else _with(getattr(table, path[0]), path[1:], value)
    return attrs.evolve(table, **{path[0]: inner})


@attrs.frozen
class Difference:
    """A difference that prevents a run from being resumed, and what to do about it."""

    what: str
    remedy: str


def difference(saved: str, now: str, processes: tuple[int, int] = (1, 1)) -> Difference | None:
    """Find how the run file of an unfinished run differs from the present run file; None if the run can be resumed.

    `output_dir`, `[engine]` and `data.verify` may differ, and so may gradient accumulation if the number of processes, or of groups that
    divide micro-batches, makes up for it.

    Args:
        saved: the saved run file, resolved.
        now: the present run file, resolved.
        processes: the number of processes of the unfinished run, and the present number.
    """
    before, after = tomli.loads(saved), tomli.loads(now)
    each = _accumulation(before), _accumulation(after)
    shares, who = (_shares(before, processes[0]), _shares(after, processes[1])), (_who(before, processes[0]), _who(after, processes[1]))
    steps = each[0] * shares[0], each[1] * shares[1]
    divided = _divided(after)
    for run in (before, after):
        run.pop("output_dir", None)  # the saved file was found in this folder, whatever it says
        run.pop("engine", None)
        (_table(run, ("data",)) or {}).pop("verify", None)  # a check before a run changes nothing in it
        (_table(run, ("optimization",)) or {}).pop(ACCUMULATION, None)
    if before != after:
        return Difference(
            f"with another run file:\n{changed_lines(saved, now)}",
            "Undo the change to resume it, accept it with --allow-changes, set checkpoints.no_resume to start over in the same folder, or choose another output_dir.",
        )
    if steps[0] == steps[1]:
        return None
    said = (
        f"that takes {steps[0]} micro-batches per step (accumulation {each[0]}, {who[0]}), but here a step would take "
        f"{steps[1]} (accumulation {each[1]}, {who[1]})"
    )
    if steps[0] % shares[1]:
        return Difference(said, f"Resume with a number of {'processes' if divided == 1 else 'groups'} that divides {steps[0]}.")
    return Difference(said, f"Set optimization.{ACCUMULATION} to {steps[0] // shares[1]}.")


def changed_lines(saved: str, now: str) -> str:
    """Return the lines that differ, marked `-` for the saved file and `+` for the present one."""
    before, after = without_place(saved).splitlines(), without_place(now).splitlines()
    lines: Sequence[str] = list(difflib.unified_diff(before, after, lineterm="", n=0))
    return "\n".join(f"    {line}" for line in lines[2:] if not line.startswith("@@"))


def without_place(text: str) -> str:
    """Return a resolved run file without its `output_dir`, on which no run depends."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("output_dir = "))


def _accumulation(run: dict[str, Any]) -> int:
    found = (_table(run, ("optimization",)) or {}).get(ACCUMULATION, 1)
    return found if isinstance(found, int) else 1


def _divided(run: Mapping[str, Any]) -> int:
    """Return the number of processes that divide the tokens of a micro-batch among them."""
    found = (_table(run, ("engine",)) or {}).get("sequence_parallel", 1)
    return found if isinstance(found, int) and found > 0 else 1


def _shares(run: Mapping[str, Any], processes: int) -> int:
    return max(1, processes // _divided(run))


def _who(run: Mapping[str, Any], processes: int) -> str:
    divided = _divided(run)
    return f"processes {processes}" if divided == 1 else f"{_shares(run, processes)} groups of {divided} processes"


def where_it_lies(loaded: LoadedRun, status: str) -> tuple[LoadedRun, str]:
    """Return a run file and a note. If a run wrote the file and its folder has been moved since then, `output_dir` is set to the present
    folder, and the note says so; otherwise the file is unchanged and the note is "".

    Args:
        loaded: the run file.
        status: the name of the file that marks an output folder.
    """
    folder, named = loaded.path.absolute().parent, loaded.config.output_dir.expanduser().absolute()
    if loaded.path.name != RUN_FILE or loaded.places.is_set(("output_dir",)) or not is_file(folder / status) or _same(folder, named):
        return loaded, ""
    moved = attrs.evolve(loaded, config=evolved(loaded.config, output_dir=folder))
    return (
        moved,
        f"was moved: it continues in {folder}, not in {named}, which its run.toml names; to choose another folder, use --set output_dir=FOLDER",
    )


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False
