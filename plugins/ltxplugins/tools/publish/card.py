"""Write the model card of a run: what the model is, samples, how to use it, how it was trained, the run file, the
license.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ltxcore.api import __version__
from ltxcore.api.config import document
from ltxcore.api.runs import Drawn, Record, Weights
from ltxplugins.tools.publish.licence import licence_of, notice
from ltxplugins.tools.report.answers import learned
from ltxplugins.tools.report.usage import uses

TASKS = {frozenset({"audio"}): "text-to-audio"}
"""The Hub's name for the task of a model, by the generated modalities. All other models generate video."""


def card(record: Record, repository: str, drawn: Sequence[Drawn]) -> str:
    """Return the text of the repository's README.md.

    Args:
        record: the record of the run, without this machine's paths.
        repository: "name/model".
        drawn: the generated samples, with their paths in the repository.
    """
    parts = [
        _about(record),
        _samples(repository, drawn),
        _files(record),
        _use(record),
        _training(record),
        _run_file(record),
        f"## Licence\n\n{notice(record)}",
    ]
    return f"---\n{_metadata(record, drawn)}---\n\n" + "\n\n".join(filter(None, parts)) + "\n"


def _metadata(record: Record, drawn: Sequence[Drawn]) -> str:
    """Return the metadata that the Hub reads, as YAML."""
    from huggingface_hub import ModelCardData

    licence = licence_of(record)
    lora = record.get("model.training_mode") == "lora"
    trigger = str(record.get("preprocessing.lora_trigger", ""))
    more: dict[str, Any] = {"base_model_relation": "adapter" if lora else "finetune"} if licence.base else {}
    if licence.key == "other":
        more |= {"license_name": licence.name.lower().replace(" ", "-")} | ({"license_link": licence.link} if licence.link else {})
    if trigger:
        more["instance_prompt"] = trigger
    pictures = [sample for sample in drawn if sample.path.suffix != ".wav"]
    if pictures:
        more["widget"] = [{"text": _prompt(record, sample), "output": {"url": sample.path.as_posix()}} for sample in pictures]
    tags = ["ltx-2", *(["lora"] if lora else []), *_generated(record)]
    data = ModelCardData(
        license=licence.key,
        base_model=licence.base or None,
        pipeline_tag=TASKS.get(frozenset(_generated(record)), "text-to-video"),
        tags=tags,
        **more,
    )
    return f"{data.to_yaml()}\n"


def _generated(record: Record) -> list[str]:
    return [name for name, table in record.modalities.items() if table["is_generated"]]


def _prompt(record: Record, sample: Drawn) -> str:
    return f"{record.get('preprocessing.lora_trigger', '')} {sample.name}".strip()


def _about(record: Record) -> str:
    lora = record.get("model.training_mode") == "lora"
    kind = f"A {record.adapters} for" if lora else "A fine-tuned version of"
    base = licence_of(record).base or str(record.get("model.model_path"))
    lines = [f"# {_safe(record.name)}", f"{kind} `{_safe(base)}`, trained with ltx {__version__} in {record.last_step:,} steps."]
    trigger = record.get("preprocessing.lora_trigger")
    if under := record.frozen_loras:
        lines.append(f"It was trained on top of {', '.join(f'`{_safe(str(each))}`' for each in under)}: load these too.")
    return "\n\n".join([*lines, *([f"Begin every prompt with `{_safe(trigger)}`."] if trigger else [])])


def _samples(repository: str, drawn: Sequence[Drawn]) -> str:
    if not drawn:
        return ""
    rows = [f"| {_safe(sample.name)} | {_shown(repository, sample.path)} |" for sample in drawn]
    return "\n".join(["## Samples", "", f"Generated after step {max(sample.step for sample in drawn):,}.", "", "| | |", "|---|---|", *rows])


def _shown(repository: str, path: Path) -> str:
    """Return the element that shows a media file, with its full address, because the Hub plays only files with a full
    address.
    """
    address = f"https://huggingface.co/{repository}/resolve/main/{quote(path.as_posix())}"
    if path.suffix == ".wav":
        return f'<audio controls src="{address}"></audio>'
    return f'<img src="{address}">' if path.suffix == ".png" else f'<video controls loop src="{address}"></video>'


def _files(record: Record) -> str:
    """If there are several files of weights, return what each of them is."""
    if record.weights is None or not record.more:
        return ""
    rows = [f"| `{_safe(each.path.as_posix())}` | {_safe(_told(each, record))} |" for each in (record.weights, *record.more)]
    return "\n".join(["## Files of weights", "", "| file | weights |", "|---|---|", *rows])


def _told(weights: Weights, record: Record) -> str:
    said = weights.metadata
    which = f"average of the weights over steps (EMA, decay {said['ema_decay']})" if "ema_decay" in said else "trained weights"
    if "validation_loss" in said:
        return f"{which} with the lowest validation loss, {said['validation_loss']}, after step {said.get('step', 'unknown')}"
    generated = ", which generated the samples" if "ema_decay" in said and record.drawn else ""
    return f"{which} after the last step, {record.last_step:,}{generated}"


def _use(record: Record) -> str:
    return "\n\n".join(["## Use", *(piece for use in uses(record) for piece in _way(use.program, use.how, use.code))])


def _way(program: str, how: str, code: str) -> Iterator[str]:
    yield f"### {program}"
    if how:
        yield _safe(how)
    if code:
        yield _code(code)


def _training(record: Record) -> str:
    answer = learned(record)
    found = [
        f"- {name}: {'generated' if table['is_generated'] else 'given'}{_conditions(table)}" for name, table in record.modalities.items()
    ]
    rate = record.get("optimization.learning_rate")
    lines = [f"- steps: {record.last_step:,}, {record.micro_batch} per micro-batch, learning rate {rate}", *found]
    return "\n".join(["## Training", "", *lines, "", f"Did it learn? {answer.word}. {answer.reason}"])


def _conditions(table: Any) -> str:
    names = [str(condition.get("type")) for condition in table.get("conditions", [])]
    names += [
        " or ".join(" and ".join(str(each.get("type")) for each in uses) or "no condition" for uses in choice["one_of"])
        for choice in table.get("choices", [])
    ]
    return f", with {', '.join(map(_safe, names))}" if names else ""


def _run_file(record: Record) -> str:
    return f"## Run file\n\n<details><summary>run.toml</summary>\n\n{_code(document(record.run).rstrip(), 'toml')}\n\n</details>"


def _code(code: str, language: str = "") -> str:
    """Return a block of code. Its fence is longer than any run of backticks in the code, so that nothing in the code
    can end the block.
    """
    longest = max(map(len, re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"


def _safe(text: object) -> str:
    """Return text, escaped so that nothing in it is Markdown or HTML markup."""
    flat = " ".join(str(text).split())
    return html.escape(flat, quote=False).replace("|", "\\|").replace("`", "'").replace("[", "\\[").replace("]", "\\]")
