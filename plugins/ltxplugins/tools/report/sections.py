"""Write the sections after the first screen: curves, samples over steps, data, what was trained, the run file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ltxcore.api.commands import leaving
from ltxcore.api.config import value_text
from ltxcore.api.runs import Record, Series
from ltxplugins.tools.report.answers import OF_AVERAGE, OTHER, OWN, held_out, objectives
from ltxplugins.tools.report.first import beside
from ltxplugins.tools.report.markup import Markup, joined, tag, text
from ltxplugins.tools.report.media import Shelf
from ltxplugins.tools.report.plots import condition_label, plots_of
from ltxplugins.tools.report.svg import figure

UNITS = ("B", "kB", "MB", "GB", "TB")


def section(anchor: str, title: str, *content: object) -> Markup:
    return tag("section", tag("h2", title), *content, id=anchor)


def table(head: Sequence[object], rows: Iterable[Sequence[object]], **attributes: object) -> Markup:
    """Return a table in which the first column has the names of the rows."""
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    top = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head))) if head else None
    return tag("div", tag("table", top, tag("tbody", *body), **attributes), class_="wide")


# ---------------------------------------------------------------- curves


def curves(record: Record) -> Markup:
    drawn = [figure(plot) for plot in plots_of(record)]
    content = tag("div", *drawn, class_="plots") if drawn else tag("p", "No step has been trained yet.")
    return section("curves", "Curves", content, _held_out_table(record))


HEAD = ("", "first measured", "last measured", "with another clip's conditioning")


def _held_out_table(record: Record) -> Markup | None:
    """Return a table of every validation loss by modality and sigma, including the losses with each condition applied and not applied, and
    for each drawn value.
    """
    rows = []
    has_average = any(name.startswith(OF_AVERAGE) for name in record.series)
    for context, modality in (*((OWN, each.modality) for each in held_out(record)), *((name, "") for name in objectives(record))):
        prefix = f"held_out/{context}/"
        keys = [name.removeprefix(prefix) for name in record.series if name.startswith(f"{prefix}{modality}") and "/sigma_" in name]
        for key in sorted(keys):
            own = record.series.get(prefix + key, Series())
            other = record.series.get(f"held_out/{OTHER}/{key}", Series()) if context == OWN else Series()
            width = record.series.get(f"half_width_95/{prefix}{key}", Series())
            margin = f" ± {width.values[-1]:.4f}" if len(width) else ""
            averaged = [_loss(record.series.get(OF_AVERAGE + prefix + key, Series()), -1)] if has_average else []
            label = _held_out_label(key) if context == OWN else f"{context}, {_held_out_label(key)}"
            rows.append((label, _loss(own, 0), _loss(own, -1) + margin, *averaged, _loss(other, -1)))
    if not rows:
        return None
    head = (*HEAD[:-1], "averaged weights", HEAD[-1]) if has_average else HEAD
    return tag("details", tag("summary", "Validation loss, number by number"), table(head, rows, class_="numbers"))


def _held_out_label(key: str) -> str:
    modality, sigma, *condition = key.split("/", 2)
    said = f"{modality}, {sigma.replace('_', ' ')}"
    return f"{said}: {condition_label(condition[0])}" if condition else said


def _loss(series: Series, index: int) -> str:
    return f"{series.values[index]:.4f}" if len(series) else "–"


# ---------------------------------------------------------------- samples


def samples(record: Record, shelf: Shelf) -> Markup:
    """Return a row for each sample, with its original and its generations over the steps."""
    if not record.drawn:
        return section("samples", "Samples over the steps", tag("p", "No samples were generated."))
    names = list(dict.fromkeys(sample.name for sample in record.drawn))
    return section("samples", "Samples over the steps", *(_row(record, name, shelf) for name in names))


def _row(record: Record, name: str, shelf: Shelf) -> Markup:
    drawn = [sample for sample in record.drawn if sample.name == name]
    files = {f"step {sample.step:,}": sample.path for sample in drawn}
    if drawn[-1].original is not None:
        files["original"] = drawn[-1].original
    together = tag("button", "Play together", type="button", class_="together") if len(files) > 1 else None
    return tag("div", tag("h3", name, together), beside(files, name, shelf), class_="over-steps")


# ---------------------------------------------------------------- data


def _samples(count: int) -> str:
    return f"{count:,} sample{'' if count == 1 else 's'}"


def _set(found: Mapping[str, Any], whole: int) -> str:
    """Describe one of several sets: its numbers of samples, and its share of a pass over the data, which has `whole` samples."""
    times = found["per_epoch"] / found["train"]
    often = "once" if times == 1 else f"{times:.3g} times"
    share = f"{found['per_epoch'] / whole:.1%} of the training"
    return f"{_samples(found['train'])} in {found['root']}, each seen {often} in a pass ({share}), and {found['held_out']:,} held out"


def data_summary(record: Record) -> Markup:
    known = record.status.get("data")
    held = record.status.get("held_out", [])
    sets = known.get("sets", {}) if isinstance(known, Mapping) else {}
    facts = [("Datasets", ", ".join(sets))] if sets else [("Dataset", record.get("data.dataset") or "–")]
    if not sets:
        root = known.get("root", "–") if isinstance(known, Mapping) else record.get("data.preprocessed_data_root") or "–"
        facts.append(("Encoded in", root))
    if isinstance(known, Mapping):
        facts.append(("Trained on", _samples(known.get("train", 0))))
    measured = record.series.get(f"held_out/{OWN}/clips", Series())
    facts.append(("Held out", _samples(int(measured.values[-1]) if len(measured) else len(held))))
    datasets = known.get("datasets", {}) if isinstance(known, Mapping) else {}
    facts += [
        (label, f"{_samples(each['train'])} in {each['root']}, and {each['held_out']:,} held out") for label, each in datasets.items()
    ]
    whole = sum(each["per_epoch"] for each in sets.values())
    facts += [(name, _set(each, whole)) for name, each in sets.items()]
    rows = known.get("sources", []) if isinstance(known, Mapping) else []
    head = ("role", "folder", "samples", "sizes", "lasting", "on disk")
    listed = [
        (each["role"], each["folder"], f"{each['samples']:,}", each["sizes"], duration(each.get("seconds")), size(each["bytes"]))
        for each in rows
    ]
    names = tag("details", tag("summary", f"Held out: {_samples(len(held))}"), tag("p", ", ".join(map(str, held)))) if held else None
    return section("data", "Data", table((), facts, class_="facts"), table(head, listed, class_="data") if listed else None, names)


# ---------------------------------------------------------------- what was trained


def trained(record: Record) -> Markup:
    facts = [*_what(record), *_how(record), *_file(record)]
    return section("trained", "What was trained", table((), facts, class_="facts"))


def _what(record: Record) -> list[tuple[str, object]]:
    said = record.weights.metadata if record.weights else {}
    lora = record.get("model.training_mode") == "lora"
    facts: list[tuple[str, object]] = [
        ("Base model", record.get("model.model_path", "–")),
        ("Generation", said.get("generation", "–")),
        ("Trained", f"{record.adapters}, alpha {record.get('lora.alpha')}" if lora else "all weights"),
    ]
    if lora:
        facts.append(("Modules", _codes((record.weights and record.weights.targets) or record.get("lora.target_modules", []))))
    groups = [group for table in (("lora",) if lora else ()) + ("optimization",) for group in record.get(f"{table}.groups", [])]
    facts += [("Group", "; ".join(f"{key} = {value}" for key, value in group.items())) for group in groups]
    if record.get("preprocessing.lora_trigger"):
        facts.append(("Trigger", tag("code", record.get("preprocessing.lora_trigger"))))
    return [*facts, *((name.capitalize(), _modality(found)) for name, found in record.modalities.items())]


def _modality(found: Mapping[str, Any]) -> Markup:
    said = ["generated" if found["is_generated"] else "frozen"]
    said += map(_condition, found.get("conditions", []))
    for choice in found.get("choices", []):
        said.append("one of: " + " / ".join(" and ".join(map(_condition, each)) or "no condition" for each in choice["one_of"]))
    return tag("span", "; ".join(said))


def _condition(table: Mapping[str, Any]) -> str:
    others = ", ".join(
        f"{key} = {value_text(value) if isinstance(value, Mapping) else value}" for key, value in table.items() if key != "type"
    )
    return f"{table.get('type')} ({others})" if others else str(table.get("type"))


def _how(record: Record) -> list[tuple[str, object]]:
    accumulated = record.get("optimization.gradient_accumulation_steps", 1)
    speed = f"{record.seconds / max(len(record.series.get('step_seconds', Series())), 1):.2f} seconds per step"
    return [
        (
            "Steps",
            f"{record.last_step:,} of {record.total_steps:,}, {record.micro_batch} per micro-batch"
            + (f", {accumulated} accumulated" if accumulated > 1 else ""),
        ),
        ("Learning rate", f"{record.get('optimization.learning_rate')}, {record.get('optimization.scheduler_type')}"),
        ("Time in steps", f"{duration(record.seconds)}, {speed}"),
    ]


def _file(record: Record) -> list[tuple[str, object]]:
    if record.weights is None:
        return []
    path, said = record.weights.path, record.weights.metadata
    factors = [f"{key} = {value}" for key, value in said.items() if key.startswith("reference_")]
    facts: list[tuple[str, object]] = [("File", f"{path.name}, {size(record.weights.size)}, {record.weights.parameters:,} parameters")]
    if factors:
        facts.append(("Reference", ", ".join(factors)))
    several = [", ".join(f"{key} = {value}" for key, value in each.items()) for each in record.weights.references]
    if several:
        facts.append(("References", "; ".join(several)))
    if "timestep_rule" in said:
        facts.append(("Timestep rule", said["timestep_rule"]))
    if record.weights.marks_first_frame is not None:
        facts.append(("First frame", "marked" if record.weights.marks_first_frame else "not marked"))
    return facts


def _codes(names: Iterable[object]) -> Markup:
    return joined((tag("code", name) for name in names), " ")


# ---------------------------------------------------------------- the run file

TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)|(?P<table>^\[+[^\]\n]*\]+)|(?P<key>^[\w.\-"]+(?=\s*=))|(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<number>\b(?:true|false|-?\d[\d_.e+\-]*)\b)""",
    re.MULTILINE | re.VERBOSE,
)
"""The pattern of the parts of TOML, in the form that ltx writes, that are shown in color."""


def run_file(record: Record) -> Markup:
    written = tag("pre", tag("code", coloured(leaving(record.text))), tag("button", "Copy", type="button", class_="copy"))
    said = "Every value is spelled out, input paths are absolute, and ~ is the home folder. It runs without changes; only set another output_dir."
    return section("run-file", "Run file", tag("p", said), tag("details", tag("summary", "run.toml"), written, open=True))


def coloured(toml: str) -> Markup:
    pieces: list[Markup] = []
    end = 0
    for found in TOKEN.finditer(toml):
        pieces += [text(toml[end : found.start()]), tag("span", found[0], class_=f"toml-{found.lastgroup}")]
        end = found.end()
    return joined([*pieces, text(toml[end:])])


# ---------------------------------------------------------------- units


def size(number: float) -> str:
    """Format a number of bytes for people."""
    for unit in UNITS[:-1]:
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} {UNITS[-1]}"


def duration(seconds: float | None) -> str:
    """Format a number of seconds for people."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
