"""Structure a TOML document as a run file, including the tables whose keys plugins define.

The module also reads the older keys of `[validation]`: lists of prompts, images and reference videos, and one scale for both
modalities.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import attrs

from ltxcore.columns import has_encode, is_folder_name
from ltxcore.conditions import ConditionUse
from ltxcore.config.acceleration import AccelerationTable
from ltxcore.config.adapters import with_dropout, with_type
from ltxcore.config.drawn_values import made_at_bounds, readers
from ltxcore.config.optimizers import fitted
from ltxcore.config.parts import evolved
from ltxcore.config.preprocessing import OF_SOURCES, PreprocessingTable
from ltxcore.config.reading import Mistake, Reading, Unreadable
from ltxcore.config.render import document
from ltxcore.config.run_file import FlowMatchingTable, LoraTable, OptimizationTable, RunFile
from ltxcore.config.sample_tables import SampleReader
from ltxcore.config.scalars import described
from ltxcore.config.structurer import Structurer
from ltxcore.config.tables import column_keys, keys_elsewhere, keys_of, objective_keys, plain, training_keys
from ltxcore.config.validation_samples import ValidationSample, ValidationTable
from ltxcore.declarations import roles_of
from ltxcore.drawn import Drawn
from ltxcore.errors import many
from ltxcore.logs import notice
from ltxcore.objectives import ObjectiveUse, faults_of_passes
from ltxcore.protocols import MODALITIES
from ltxcore.registry import Registry

T = TypeVar("T")

IN_PARTS = frozenset({RunFile, ValidationSample, *(key.kind for key in keys_of(RunFile) if attrs.has(key.kind))})
"""The tables that are read in parts, so that some keys are known although others are not: the tables whose keys no plugin defines."""


def structure(
    data: Mapping[str, Any], registry: Registry, folder: Path, elsewhere: Collection[str] = (), *, in_parts: bool = False
) -> tuple[RunFile | None, list[Mistake]]:
    """Return the run file (None if it could not be read at all), and every mistake in it.

    Args:
        data: the TOML document.
        registry: the registry in which the names of strategies, conditions, samplers and trackers are looked up.
        folder: the folder of the run file, where relative input paths start.
        elsewhere: the tables whose input paths are on another machine and need not exist here.
        in_parts: whether a run file with mistakes is read too, without the wrong keys (`config.parts`).
    """
    structurer = structurer_of(registry, folder)
    structurer.elsewhere = elsewhere
    structurer.in_parts = IN_PARTS if in_parts else ()
    try:
        return RunReader(structurer).run_file(data), structurer.reading.mistakes
    except Unreadable:
        return None, structurer.reading.mistakes


def structurer_of(registry: Registry, folder: Path, *, start: str = "the run file") -> Structurer:
    """Return a structurer that knows the tables whose keys plugins define, and the older keys for samples.

    Args:
        registry: the registry, as in `structure`.
        folder: the folder where relative input paths start.
        start: how messages name that folder.
    """
    structurer = Structurer(registry, folder, start=start)
    reader = RunReader(structurer)
    hook = structurer.converter.register_structure_hook
    hook(ConditionUse, lambda value, _: reader.condition_use(value))
    hook(ObjectiveUse, lambda value, _: reader.objective_use(value))
    hook(FlowMatchingTable, lambda value, _: reader.flow_matching(value))
    hook(AccelerationTable, lambda value, _: reader.acceleration(value))
    hook(LoraTable, lambda value, _: reader.lora(value))
    hook(OptimizationTable, lambda value, _: reader.optimization(value))
    hook(PreprocessingTable, lambda value, _: reader.preprocessing(structurer.table(value, PreprocessingTable)))
    hook(ValidationTable, lambda value, _: structurer.table(in_new_words(value, structurer.reading), ValidationTable))
    hook(ValidationSample, lambda value, _: SampleReader(structurer).sample(value))
    return structurer


@attrs.frozen
class RunReader:
    """A reader of the parts of a run file whose keys plugins define."""

    structurer: Structurer

    def run_file(self, value: Any) -> RunFile:
        value = {"training_strategy": {}, "output_dir": "outputs", **value}
        special = {"training_strategy": self.strategy, "trackers": self.trackers}
        if RunFile in self.structurer.in_parts:
            return cast(
                RunFile, self.structurer.parts(value, RunFile, special, lambda: {"strategy_name": _name_of(value["training_strategy"])})
            )
        values = self.structurer.values(value, self.structurer.keys(RunFile), special)
        return cast(RunFile, self.structurer.made(RunFile, {**values, "strategy_name": _name_of(value["training_strategy"])}))

    def strategy(self, value: Any) -> Any:
        _, cls = self.structurer.chosen("strategy", value, "name")
        return self.structurer.table({name: inner for name, inner in value.items() if name != "name"}, cls)

    def trackers(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.structurer.reading.refuse(f"must be tables, [trackers.NAME], not {described(value)}")
        read, failed = {}, False
        for name, table in value.items():
            with self.structurer.reading.at(name):
                try:
                    read[name] = self.structurer.table(table, self.structurer.registered("tracker", name))
                except Unreadable:
                    failed = True
        if failed:
            raise Unreadable
        return read

    def flow_matching(self, value: Any) -> FlowMatchingTable:
        table: FlowMatchingTable = self.structurer.table(value, FlowMatchingTable)
        return self.with_plugin(table, "sigma_sampler", "timestep_sampling_mode", "timestep_sampling_params", "sampler")

    def lora(self, value: Any) -> LoraTable:
        table = with_type(self.structurer.table(value, LoraTable), value, self.structurer.reading)
        beside: dict[str, Any] = {}
        with suppress(Unreadable):
            beside |= {"use_rslora": True} if table.use_rslora else {}
        made = self.with_plugin(table, "adapter", "type", "params", "adapter", beside)
        return with_dropout(evolved(made, use_rslora=None), self.structurer.reading)

    def optimization(self, value: Any) -> OptimizationTable:
        table: OptimizationTable = self.structurer.table(value, OptimizationTable)
        beside: dict[str, Any] = {}
        with suppress(Unreadable):
            beside |= {} if table.betas is None else {"betas": list(table.betas)}
        made = fitted(
            self.with_plugin(table, "optimizer", "optimizer_type", "optimizer_params", "optimizer", beside), value, self.structurer.reading
        )
        return self.with_plugin(made, "schedule", "scheduler_type", "scheduler_params", "schedule")

    def acceleration(self, value: Any) -> AccelerationTable:
        table: AccelerationTable = self.structurer.table(value, AccelerationTable)
        with suppress(Unreadable):
            if table.quantization is not None:
                asked = evolved(table, quantization_params=table.quantization_params or {})
                table = self.with_plugin(asked, "quantizer", "quantization", "quantization_params", "quantizer")
                table = evolved(table, quantization_params=table.quantization_params or None)
            elif table.quantization_params:
                self.structurer.reading.note(
                    "has no effect without quantization", "Set quantization, or remove this key.", below=("quantization_params",)
                )
        return table

    def preprocessing(self, table: PreprocessingTable) -> PreprocessingTable:
        """Return the table with the registry and the source that the table names; keys that belong to the source become its parameters."""
        table = self.columns(evolved(table, registry=self.structurer.registry))
        try:
            source, params = table.source, table.source_params
            beside = {key: value for key in OF_SOURCES if (value := getattr(table, key)) is not None}
        except Unreadable:
            return table
        if source is not None:
            return self.with_plugin(evolved(table, (), **dict.fromkeys(beside)), "source", "source", "source_params", "reader", beside)
        if params:
            self.structurer.reading.note(
                "belong to a source, but no source is named", "Name the source with the key source.", below=("source_params",)
            )
        return table

    def columns(self, table: PreprocessingTable) -> PreprocessingTable:
        """Return the table with the columns that it names, whose parameters are checked against their classes."""
        reading, made, written = self.structurer.reading, dict[str, Any](), dict[str, Any]()
        try:
            asked = table.columns
        except Unreadable:
            return table
        for name, inner in asked.items():
            with suppress(Unreadable), reading.at("columns", name):
                is_another = isinstance(inner, dict) and "type" in inner and name not in self.structurer.registry.of_kind("column")
                cls = self._another_column(name, inner) if is_another else self.structurer.registered("column", name)
                keys = self.structurer.keys(cls, partial(column_keys, is_another=is_another))
                typed = f'the column "{name}" is registered, so it has a type', "Remove this key, or choose another name for the table."
                values = self.structurer.values(inner, keys, not_here={} if is_another else {"type": typed})
                if values.get("column") is not None and getattr(table, f"{name}_column", None) is not None:
                    reading.note(f"means the same as {name}_column", "Keep one of the two.", below=("column",))
                of_class = {key.name for key in keys_of(cls)}
                made[name] = self.structurer.made(cls, {key: value for key, value in values.items() if key in of_class})
                beside = {key: value for key, value in values.items() if key not in of_class and value is not None}
                written[name] = beside | plain(made[name])
        return evolved(table, encoders=made, columns=written)

    def _another_column(self, name: str, table: dict[str, Any]) -> Any:
        """Return the class of a column that is like a registered one, but has a name and a folder of its own."""
        reading, (kind, cls) = self.structurer.reading, self.structurer.chosen("column", table, "type")
        with reading.at("type"):
            if has_encode(cls):
                reading.refuse(
                    f'the column "{kind}" can be there only once, since its plugin encodes the cells', "Choose a column of media."
                )
        if not is_folder_name(name):
            reading.refuse(f'"{name}" cannot be the name of a folder, which the column is encoded to', "Choose another name for the table.")
        return cls

    def with_plugin(self, table: T, kind: str, name: str, params: str, field: str, beside: Mapping[str, Any] | None = None) -> T:
        """Return a table with `field` set to the object that two of its keys describe: `name`, the name of a plugin, and
        `params`, a table with the plugin's keys.

        `beside` lists the keys of the plugin that are in the table itself.
        """
        try:
            made = self.structurer.params(table, kind, name, params, beside or {})
        except Unreadable:
            if not self.structurer.in_parts:
                raise
            return evolved(table, (name, params, field))
        return evolved(table, **{field: made, params: plain(made)})

    def condition_use(self, value: Any) -> ConditionUse:
        name, cls = self.structurer.chosen("condition", value, "type")
        modality = next((part for part in reversed(self.structurer.reading.path) if part in MODALITIES), None)
        keys = self.structurer.keys(cls, lambda cls: training_keys(cls, modality))
        self._check_modality(name, cls, modality)
        values = self.structurer.values(value, keys, readers(self.structurer, keys, value), keys_elsewhere(cls, modality))
        del values["type"]
        probability = values.pop("probability", 1.0)
        sources = {role.name: values.pop(role.source_key) for role in roles_of(cls)}
        drawn = {key: each for key, each in values.items() if isinstance(each, Drawn)}
        return ConditionUse(name, made_at_bounds(self.structurer, cls, values, drawn), probability, sources, drawn)

    def objective_use(self, value: Any) -> ObjectiveUse:
        name, cls = self.structurer.chosen("objective", value, "type")
        values = self.structurer.values(value, self.structurer.keys(cls, objective_keys))
        del values["type"]
        reading, roles = self.structurer.reading, roles_of(cls)
        weight, probability = values.pop("weight", 1.0), values.pop("probability", 1.0)
        with reading.at("weight"):
            self._check_weights(weight)
        folders = {role.name: folder for role in roles if (folder := values.pop(role.source_key, None)) is not None}
        if roles and not folders:
            keys = " or ".join(role.source_key for role in roles)
            reading.refuse(f'the objective "{name}" needs data of its own', f"Name the folder of the data: {keys}.")
        made = self.structurer.made(cls, values)
        for fault in faults_of_passes(made):
            reading.refuse(f'the objective "{name}" {fault}', "Report this to the plugin's author.")
        return ObjectiveUse(name, made, weight, probability, folders)

    def _check_weights(self, weight: float | Mapping[str, float]) -> None:
        reading = self.structurer.reading
        for modality, number in weight.items() if isinstance(weight, Mapping) else ():
            if modality not in MODALITIES:
                reading.note("is not a modality", f"Write {' or '.join(MODALITIES)}.", below=(modality,))
            elif not number > 0:
                reading.note(f"must be above 0, not {number:g}", f"To leave {modality} out, set is_generated = false.", below=(modality,))

    def _check_modality(self, name: str, cls: Any, modality: str | None) -> None:
        """Refuse a condition under `[training_strategy.MODALITY]` that does not work on that modality."""
        reading, registry = self.structurer.reading, self.structurer.registry
        if modality is not None and modality not in cls.modalities:
            others = [other for other, named in registry.of_kind("condition").items() if modality in named.value.modalities]
            what = f'the condition "{name}" does not work on {modality}'
            reading.note(what, f"Conditions on {modality}: {', '.join(sorted(others))}.", below=("type",))


def _name_of(table: Any) -> Any:
    """Return the name of a strategy, if its table has one."""
    return table.get("name", "") if isinstance(table, dict) else ""


LISTS = ("prompts", "images", "reference_videos")
REFERENCE = {"reference_downscale_factor": "downscale_factor", "include_reference_in_output": "include_in_output"}
STG_MODES = ("stg_av", "stg_v")
OLDER = (*LISTS, *REFERENCE, "guidance_scale", "stg_scale", "stg_mode")


def in_new_words(table: Any, reading: Reading) -> Any:
    """Translate the older keys of `[validation]` into present ones, and tell the user once what to write instead. A table without
    older keys is returned unchanged.

    Mistakes in the older keys are noted at these keys.

    Source: https://github.com/Lightricks/LTX-2/blob/main/packages/ltx-trainer/docs/configuration-reference.md

    Raises:
        Unreadable: the older keys cannot be read, or newer keys for the same values are set too.
    """
    if not isinstance(table, dict) or not any(name in table for name in OLDER):
        return table
    before = len(reading.mistakes)
    found = {**_samples(table, reading), **_guidance(table, reading)}
    if len(reading.mistakes) > before:
        raise Unreadable
    older = [name for name in OLDER if name in table]
    newer = _spelled(found)
    instead = f"Write instead:\n\n{newer}" if newer else f"Remove {'it' if len(older) == 1 else 'them'}."
    notice(f"In [validation], {', '.join(older)} {'is' if len(older) == 1 else 'are'} deprecated. {instead}")
    return {name: value for name, value in table.items() if name not in OLDER} | found


def _spelled(found: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in found.items() if name != "samples"}
    samples = [f"[[validation.samples]]\n{document(sample)}" for sample in found.get("samples", [])]
    return "\n".join([*([document({"validation": rest})] if rest else []), *samples])


def _samples(table: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    """Return one sample for each prompt in the older lists."""
    given = [name for name in (*LISTS, *REFERENCE) if name in table]
    if not given:
        return {}
    if table.get("samples"):
        for name in given:
            reading.note("means the same as samples", "Keep samples.", below=(name,))
        return {}
    lists = {name: _texts(table[name], name, reading) for name in LISTS if name in table}
    prompts = lists.pop("prompts", None)
    if prompts is None:
        for name in given:
            if name != "prompts":
                reading.note("needs prompts, but there are none", "Write [[validation.samples]], each with a prompt.", below=(name,))
        return {}
    for name, texts in lists.items():
        if texts is not None and len(texts) != len(prompts):
            reading.note(
                f"has {many(len(texts), 'entry', 'entries')} for {many(len(prompts), 'prompt', 'prompts')}",
                "Write one entry for each prompt.",
                below=(name,),
            )
            return {}
    reference = {new: table[old] for old, new in REFERENCE.items() if old in table}
    return {"samples": [_sample(prompt, index, lists, reference) for index, prompt in enumerate(prompts)]}


def _sample(prompt: str, index: int, lists: Mapping[str, list[str] | None], reference: Mapping[str, Any]) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = []
    images, videos = lists.get("images"), lists.get("reference_videos")
    if images is not None:
        conditions.append({"type": "first_frame", "image_or_video": images[index]})
    if videos is not None:
        conditions.append({"type": "reference", "video": videos[index], **reference})
    return {"prompt": prompt} | ({"conditions": conditions} if conditions else {})


def _texts(value: Any, name: str, reading: Reading) -> list[str] | None:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    reading.note(f"must be a list of texts, not {described(value)}", below=(name,))
    return None


def _guidance(table: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    """Translate `guidance_scale` into the present two scales, and `stg_scale` likewise, with 0 for audio if `stg_mode` is "stg_v"."""
    found: dict[str, Any] = {}
    if "guidance_scale" in table and not _mixed(table, ("guidance_scale",), "cfg", reading):
        found |= dict.fromkeys(("video_cfg_scale", "audio_cfg_scale"), table["guidance_scale"])
    older = [name for name in ("stg_scale", "stg_mode") if name in table]
    if older and not _mixed(table, older, "stg", reading):
        mode = table.get("stg_mode", STG_MODES[0])
        if mode not in STG_MODES:
            reading.note(f'there is no mode "{mode}"', f"Choose one: {', '.join(STG_MODES)}.", below=("stg_mode",))
            return found
        scale = table.get("stg_scale", 1.0)
        found |= {"video_stg_scale": scale, "audio_stg_scale": 0.0 if mode == "stg_v" else scale}
    return found


def _mixed(table: Mapping[str, Any], older: tuple[str, ...] | list[str], kind: str, reading: Reading) -> bool:
    """Return whether newer keys for the same value stand beside older ones, and note these as mistakes."""
    newer = [name for name in (f"video_{kind}_scale", f"audio_{kind}_scale") if name in table]
    for name in older if newer else ():
        reading.note(f"means the same as {' and '.join(newer)}", f"Keep {' and '.join(newer)}.", below=(name,))
    return bool(newer)
