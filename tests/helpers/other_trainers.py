"""Small configurations of other trainers in their layouts, and what they convert to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli
import yaml

from helpers.raw_media import clip_file
from ltxcore.config.render import document
from ltxcore.errors import ConfigError
from ltxplugins.tools.convert.old import Converted
from ltxplugins.tools.convert.recognize import convert
from ltxplugins.tools.convert.settings import ANY, Kept, Left, Rules

HERE = Path("/here")


def converted(text: str, *, start: Path = HERE, trainer: str = "", name: str = "old.txt") -> Converted:
    return convert(text, str(start / name), start=start, folder=start, trainer=trainer)


def values(text: str, **options: Any) -> dict[str, Any]:
    """What the run file says."""
    return tomli.loads(converted(text, **options).text)


def remarks(text: str, **options: Any) -> list[str]:
    """What is told of the conversion; each also stands in the run file."""
    done = converted(text, **options)
    flat = " ".join(line.removeprefix("# ") for line in done.text.splitlines())
    for remark in done.remarks:
        assert remark in flat
    return list(done.remarks)


def refused(text: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as error:
        converted(text, **options)
    return str(error.value)


def at(found: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None if there is none."""
    value: Any = found
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def table(rules: Rules) -> str:
    """Every setting on a line: the key that it becomes, or why it is not kept."""
    lines = []
    for setting, rule in rules.items():
        lines.append(f"{setting} -> {rule.key or '(a part of the file)'}" if isinstance(rule, Kept) else f"{setting}: not kept: {rule.why}")
    return "".join(f"{line}\n" for line in lines)


def clips(folder: Path, count: int = 2, frames: int = 17) -> Path:
    """A folder of clips with captions, of the size that the configurations of these tests ask for."""
    for index in range(count):
        clip_file(folder / f"{index}.mp4", frames=frames, seed=index)
        (folder / f"{index}.txt").write_text(f"clip number {index}\n")
    return folder


def left(rules: Rules) -> dict[str, Left]:
    """The settings that are not kept, by their names."""
    return {name: rule for name, rule in rules.items() if isinstance(rule, Left)}


def assert_named(done: Converted, rules: Rules, without: Collection[str] = ()) -> None:
    """Check a conversion of a file in which every setting that is not kept is "strange": each is named with its reason, or as not needed."""
    idle = done.text.partition("# Not needed here, or switched off: ")[2].partition("\n[")[0]
    for setting, rule in left(rules).items():
        name = setting.rpartition(".")[2]
        if rule.idle is ANY:
            assert name in idle, setting
        elif setting not in without:
            shown = "***" if "api_key" in name or ("token" in name.split("_") and "huggingface" in name) else '"strange"'
            assert any(f"{name} = {shown} is not kept: {rule.why}." in remark for remark in done.remarks), setting


# ---- ai-toolkit


def job(changed: Mapping[str, Any] | None = None) -> str:
    """YAML of a small job; `changed` sets values by their paths in the process, or in "datasets" for the first dataset."""
    process: dict[str, Any] = {
        "type": "sd_trainer",
        "training_folder": "runs",
        "network": {"type": "lora", "linear": 16, "linear_alpha": 16},
        "datasets": [{"folder_path": "clips", "resolution": 64, "num_frames": 17}],
        "train": {"lr": 1e-4},
        "model": {"name_or_path": "ltx.safetensors", "arch": "ltx2"},
        "sample": {"width": 64, "height": 64, "num_frames": 17, "prompts": ["a clip"]},
    }
    config: dict[str, Any] = {"name": "mine", "process": [process]}
    for path, value in (changed or {}).items():
        table, _, name = path.rpartition(".")
        place = {"config": config, "": process, "process": process, "datasets": process["datasets"][0]}.get(table)
        if table == "samples":
            sample = {**process["sample"].get("samples", [{"prompt": "one"}])[0], name: value}
            process["sample"] = {**process["sample"], "prompts": None, "samples": [sample]}
        elif place is not None:
            place[name] = value
        else:
            process.setdefault(table, {})[name] = value
    return yaml.safe_dump({"job": "extension", "config": config, "meta": {"version": "1.0"}}, sort_keys=False)


# ---- musubi-tuner


def musubi(folder: Path, arguments: Mapping[str, Any] | None = None, dataset: Mapping[str, Any] | None = None) -> str:
    """TOML of arguments; the dataset is written into the folder, with `dataset` in its first set."""
    first = {"video_directory": "clips", "resolution": [64, 64], "target_frames": [17], **(dataset or {})}
    (folder / "data.toml").write_text(document({"general": {"batch_size": 1}, "datasets": [first]}))
    given = {
        "dataset_config": "data.toml",
        "ltx2_checkpoint": "ltx.safetensors",
        "network_dim": 16,
        "network_alpha": 16,
        **(arguments or {}),
    }
    return document({key: value for key, value in given.items() if value is not None})


# ---- diffusion-pipe


def pipe(folder: Path, changed: Mapping[str, Any] | None = None) -> str:
    """TOML of a training; the dataset is written into the folder; `changed` sets values by their paths."""
    data: dict[str, Any] = {"resolutions": [64], "frame_buckets": [17], "directory": [{"path": "clips"}]}
    main: dict[str, Any] = {
        "output_dir": "runs",
        "dataset": "data.toml",
        "max_steps": 100,
        "model": {"type": "ltx2", "diffusion_model": "ltx.safetensors", "dtype": "bfloat16"},
        "adapter": {"type": "lora", "rank": 16},
        "optimizer": {"type": "adamw", "lr": 2e-5},
    }
    for path, value in (changed or {}).items():
        table, _, name = path.rpartition(".")
        place = {"": main, "dataset": data, "directory": data["directory"][0]}.get(table)
        place = main.setdefault(table, {}) if place is None else place
        place[name] = value
        if value is None:
            del place[name]
    (folder / "data.toml").write_text(document(data))
    return document(main)
