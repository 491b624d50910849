"""Plugins: from entry points to names, each with its origin; and those that are broken, each with its reason."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import attrs
import pluggy

from ltxcore import hookspecs
from ltxcore.errors import ConfigError, PluginError, suggestion
from ltxcore.protocols import MODALITIES, Role

GROUP = "ltx"
DISABLE = "LTX_DISABLE_PLUGINS"

HOOKS: Mapping[str, str] = MappingProxyType(
    {
        "condition": "ltx_conditions",
        "strategy": "ltx_strategies",
        "sigma_sampler": "ltx_sigma_samplers",
        "reference_filter": "ltx_reference_filters",
        "tracker": "ltx_trackers",
        "command": "ltx_commands",
    }
)
"""What a plugin can add, and the hook it adds it with."""


@attrs.frozen
class Origin:
    """Where a plugin comes from; `plugin` is its entry point's name, or the path of a local file."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({self.plugin})".replace("  ", " ")


@attrs.frozen
class Named:
    """Something a plugin added."""

    name: str
    kind: str
    value: Any
    origin: Origin


@attrs.frozen
class Broken:
    """A plugin that could not be used, and why; `claims` are the names it would have added, as far as they are known."""

    origin: Origin
    reason: str
    claims: frozenset[str] = frozenset()


@attrs.frozen
class Registry:
    """All names that plugins add, by kind, and the plugins that are broken."""

    names: Mapping[str, Mapping[str, Named]]
    broken: tuple[Broken, ...] = ()

    def of_kind(self, kind: str) -> Mapping[str, Named]:
        return self.names.get(kind, {})

    def get(self, kind: str, name: str, where: str = "") -> Named:
        """What is registered under `name`.

        Raises:
            ConfigError: nothing is, with the nearest name.
            PluginError: the plugin that would add it is broken, with the reason.
        """
        found = self.of_kind(kind).get(name)
        if found is not None:
            return found
        for broken in self.broken:
            if name in broken.claims or name == broken.origin.plugin:
                raise PluginError(
                    f'the {_spoken(kind)} "{name}" comes from a broken plugin, {broken.origin}: {broken.reason}',
                    where=where,
                    remedy="Mend or uninstall it; `ltx plugins list` shows all broken plugins.",
                )
        raise ConfigError(f'there is no {_spoken(kind)} "{name}"', where=where, remedy=suggestion(name, self.of_kind(kind)))


def load(local: Iterable[Path] = (), disabled: Iterable[str] | None = None) -> Registry:
    """Load every plugin: installed entry points of the group `ltx`, ours first, then local files.

    Args:
        local: Python files that are plugins of one run only.
        disabled: names of plugins to leave out; by default those in LTX_DISABLE_PLUGINS, separated by commas.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    if disabled is None:
        disabled = os.environ.get(DISABLE, "").split(",")
    for name in disabled:
        if name.strip():
            manager.set_blocked(name.strip())
    names: dict[str, dict[str, Named]] = {kind: {} for kind in HOOKS}
    broken: list[Broken] = []
    for origin, load_module in [*_installed(), *_local(local)]:
        if manager.is_blocked(origin.plugin):
            continue
        added: list[Named] = []
        try:
            plugin = load_module()
            _check_hooks(manager, plugin)
            if manager.register(plugin, name=origin.plugin) is None:
                continue
            added = _collect(manager, plugin, origin)
            _check_names(names, added)
        except Exception as error:  # noqa: BLE001 - a stranger's code may raise anything, and the other plugins go on
            reason = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            broken.append(Broken(origin, reason, frozenset(item.name for item in added)))
            continue
        for item in added:
            names[item.kind][item.name] = item
    return Registry(names, tuple(broken))


def _installed() -> list[tuple[Origin, Callable[[], Any]]]:
    found = []
    for point in importlib.metadata.entry_points(group=GROUP):
        distribution = point.dist.name if point.dist is not None else "?"
        version = point.dist.version if point.dist is not None else ""
        found.append((Origin(point.name, distribution, version), point.load))
    return sorted(found, key=lambda pair: (pair[0].distribution != "ltx", pair[0].distribution, pair[0].plugin))


def _local(paths: Iterable[Path]) -> list[tuple[Origin, Callable[[], Any]]]:
    def loader(path: Path) -> Callable[[], ModuleType]:
        def load_file() -> ModuleType:
            if not path.is_file():
                raise PluginError("there is no such file")
            spec = importlib.util.spec_from_file_location(f"ltx_local_{path.stem}", path)
            if spec is None or spec.loader is None:
                raise PluginError("a local plugin is a Python file, ending in .py")
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
            return module

        return load_file

    return [(Origin(str(path), "local file", ""), loader(path)) for path in paths]


def _check_hooks(manager: pluggy.PluginManager, plugin: Any) -> None:
    known = list(HOOKS.values())
    offered = [name for name in dir(plugin) if manager.parse_hookimpl_opts(plugin, name) is not None]
    for name in offered:
        if name not in known:
            raise PluginError(f'there is no hook "{name}". {suggestion(name, known)}')
    if not offered:
        raise PluginError("it offers no hook. Mark at least one function with ltxcore.api.hookimpl.")


def _collect(manager: pluggy.PluginManager, plugin: Any, origin: Origin) -> list[Named]:
    others = [other for other in manager.get_plugins() if other is not plugin]
    added = []
    for kind, hook in HOOKS.items():
        for mapping in manager.subset_hook_caller(hook, remove_plugins=others)():
            if not isinstance(mapping, Mapping):
                raise PluginError(f"{hook} returns {type(mapping).__name__}, not a mapping from names")
            for name, value in mapping.items():
                if not isinstance(name, str) or not name:
                    raise PluginError(f"{hook} names something {name!r}; names are non-empty strings")
                added.append(Named(name, kind, value, origin))
    for item in added:
        if item.kind == "condition":
            _check_condition(item)
        elif item.kind == "strategy":
            _check_table(item, "build")
        elif item.kind == "sigma_sampler":
            _check_table(item, "sample")
    return added


def _check_names(names: Mapping[str, Mapping[str, Named]], added: Iterable[Named]) -> None:
    for item in added:
        taken = names[item.kind].get(item.name)
        if taken is not None:
            raise PluginError(f'the {_spoken(item.kind)} "{item.name}" of {item.origin} is already that of {taken.origin}')


def _check_table(item: Named, method: str) -> None:
    cls = item.value
    if not inspect.isclass(cls) or not attrs.has(cls):
        raise PluginError(f'the {_spoken(item.kind)} "{item.name}" is not an attrs class')
    if not callable(getattr(cls, method, None)):
        raise PluginError(f'the {_spoken(item.kind)} "{item.name}" has no method {method}()')


def _check_condition(item: Named) -> None:
    _check_table(item, "apply")
    cls, name = item.value, f'the condition "{item.name}"'
    parameters = list(inspect.signature(cls.apply).parameters)
    if len(parameters) != 3:
        raise PluginError(f"{name} has apply({', '.join(parameters)}); it takes (self, state, inputs)")
    modalities = getattr(cls, "modalities", None)
    if not isinstance(modalities, frozenset) or not modalities or not modalities <= set(MODALITIES):
        raise PluginError(f'{name} has modalities {modalities!r}; they are a frozenset of "video", "audio" or both')
    if content_of(cls) not in (None, "start", "end", "whole"):
        raise PluginError(f'{name} has content {content_of(cls)!r}; it is "start", "end", "whole" or None')
    roles = roles_of(cls)
    if not isinstance(roles, tuple) or not all(isinstance(role, Role) for role in roles):
        raise PluginError(f"{name} has roles {roles!r}; they are a tuple of ltxcore.api.Role")
    for role in roles:
        if role.kind not in ("mask", "latents"):
            raise PluginError(f'{name} has a role "{role.name}" of kind {role.kind!r}; it is "mask" or "latents"')
    reserved = {"type", "probability"} | {role.source_key for role in roles}
    taken = reserved & {field.name for field in attrs.fields(cls)}
    if taken:
        raise PluginError(f"{name} has a field {sorted(taken)[0]!r}, which is a key of every condition or of one of its roles")


def roles_of(cls: Any) -> tuple[Role, ...]:
    """The roles of a condition class; none if it names none."""
    return getattr(cls, "roles", ())


def content_of(cls: Any) -> str | None:
    """Where the own medium of a condition class lies on the target; None if it has none."""
    return getattr(cls, "content", None)


def appends(cls: Any) -> bool:
    """Whether a condition class appends tokens."""
    return bool(getattr(cls, "appends", False))


def _spoken(kind: str) -> str:
    return kind.replace("_", " ")
