"""Find the filter that a user names, and apply it to the frames of a clip."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.api import ConfigError, LtxError, PluginError, ReferenceFilter
from ltxcore.api.commands import find_plugin, fitted, is_out_of_memory, reason_of

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Filter:
    """A filter that makes a reference or a mask from a clip.

    Attributes:
        name: the name under which a plugin adds the filter.
        origin: the origin of the plugin.
        version: the version of the plugin, with a hash of the content if it is a local file, and the keys that do
            not have their default values. If the version changes, everything is made again.
        folder: the name of the folder for what it makes, different for different keys.
        run: the filter itself.
        makes: "reference" or "mask".
    """

    name: str
    origin: str
    version: str
    folder: str
    run: ReferenceFilter
    makes: str = "reference"


def filter_named(text: str, local: Iterable[Path], makes: str = "reference") -> Filter:
    """Find the filter that a plugin or a Python file in `local` adds under a name, which its keys may follow: `NAME,key=value`.

    Args:
        text: the name and the keys.
        local: Python files with plugins.
        makes: what the filter has to make: "reference" or "mask".

    Raises:
        ConfigError: there is no such filter, its keys are wrong, or it makes something else.
        PluginError: the plugin of the filter is broken or switched off.
    """
    found = find_plugin("reference_filter", text, local=local, where="--filter", keys=True)
    other = getattr(found.value, "makes", "reference")
    if other != makes:
        raise ConfigError(f'the filter "{found.name}" makes a {other}, not a {makes}', where="--filter", remedy=f"Use `ltx {other}`.")
    file = Path(found.origin.plugin)
    content = hashlib.sha256(file.read_bytes()).hexdigest() if file.suffix == ".py" and file.is_file() else ""
    keys = _keys(found.value)
    told = f" {json.dumps({name: [str(value), _content(value)] for name, value in keys.items()})}" if keys else ""
    version = f"{found.name} of {found.origin} {content}".strip() + told
    return Filter(found.name, str(found.origin), version, _folder(found.name, keys), found.value, makes)


def _keys(filter_: Any) -> dict[str, Any]:
    """Return the keys of a filter that do not have their default values."""
    fields = attrs.fields(type(filter_)) if attrs.has(type(filter_)) else ()
    values = {field.alias or field.name: (getattr(filter_, field.name), field.default) for field in fields if field.init}
    return {name: value for name, (value, default) in sorted(values.items()) if value != default}


def _content(value: Any) -> list[tuple[str, int, int]]:
    """Return the files in the folder that is the value of a key, such as those of a model, with their sizes and times."""
    if not isinstance(value, Path):
        return []
    files = sorted(path for path in (value.rglob("*") if value.is_dir() else [value]) if path.is_file())
    return [(path.relative_to(value).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def _folder(name: str, keys: Mapping[str, Any]) -> str:
    """Return a filter's name with its keys, in a form that can be the name of a folder."""
    told = "-".join([name, *(f"{key}-{value}" for key, value in keys.items())])
    plain = re.sub(r"[^\w.]+", "-", told)
    return fitted(plain if plain == told else f"{plain}-{hashlib.sha256(told.encode()).hexdigest()[:8]}")


class _Taken:
    """An iterator that counts the frames that a filter takes. It remembers an error in reading them, so that this error
    is not mistaken for an error of the filter.
    """

    def __init__(self, frames: Iterator[Tensor]) -> None:
        self._frames = frames
        self.count = 0
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        try:
            frame = next(self._frames)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise
        self.count += 1
        return frame


def filtered_frames(frames: Iterator[Tensor], filter_: Filter, clip: Path) -> Iterator[Tensor]:
    """Yield the filter's frames for a clip, after checking them against the protocol of filters.

    Raises:
        PluginError: the filter breaks its protocol, or fails.
    """
    import torch

    taken, given, size = _Taken(frames), 0, None
    what = f'the reference filter "{filter_.name}" of {filter_.origin}'
    try:
        for frame in filter_.run(taken):
            if not isinstance(frame, torch.Tensor) or frame.dtype != torch.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
                kind = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, torch.Tensor) else type(frame).__name__
                raise PluginError(f"{what} returns {kind}, not torch.uint8 [H, W, 3]", where=str(clip))
            if size not in (None, frame.shape):
                raise PluginError(f"{what} returns frames of different sizes", where=str(clip))
            size, given = frame.shape, given + 1
            yield frame
        for _ in taken:  # to count all frames of the clip
            pass
    except LtxError:
        raise
    except Exception as error:
        if error is taken.error or is_out_of_memory(error):
            raise
        raise PluginError(f"{what} failed: {reason_of(error)}", where=str(clip)) from error
    if given != taken.count:
        raise PluginError(f"{what} gives {given} frames for {taken.count}", where=str(clip))
