"""Register plugins: turn entry points into names with their origins, and give a reason for each plugin that is broken."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import attrs
import pluggy

from ltxcore import declarations, hookspecs
from ltxcore.declarations import refuse, spoken
from ltxcore.errors import ConfigError, PluginError, Problem, listed, reason_of, suggestion
from ltxcore.protocols import MODALITIES
from ltxcore.redact import redacted

GROUP = "ltx"
DISABLE = "LTX_DISABLE_PLUGINS"

HOOKS: Mapping[str, str] = MappingProxyType(
    {
        "condition": "ltx_conditions",
        "strategy": "ltx_strategies",
        "objective": "ltx_objectives",
        "sigma_sampler": "ltx_sigma_samplers",
        "adapter": "ltx_adapters",
        "optimizer": "ltx_optimizers",
        "schedule": "ltx_schedules",
        "source": "ltx_sources",
        "column": "ltx_columns",
        "quantizer": "ltx_quantizers",
        "exporter": "ltx_exporters",
        "reference_filter": "ltx_reference_filters",
        "tracker": "ltx_trackers",
        "command": "ltx_commands",
    }
)
"""The hook for each kind of thing that a plugin can add."""

NOT_THE_PLUGIN = ("<frozen", __file__, str(Path(pluggy.__file__).parent), str(Path(importlib.metadata.__file__).parents[1]))
"""The beginnings of file paths in tracebacks that are not the plugin's own code: Python's import machinery, pluggy and
this module.
"""


@attrs.frozen
class Origin:
    """The origin of a plugin; `plugin` is the name of its entry point, or the path of a local file."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({self.plugin})".replace("  ", " ")


@attrs.frozen
class Named:
    """An object that a plugin added, with its name, kind and origin."""

    name: str
    kind: str
    value: Any
    origin: Origin

    @property
    def modalities(self) -> list[str]:
        """The modalities that a condition works on; empty for anything but a condition."""
        return [name for name in MODALITIES if self.kind == "condition" and name in self.value.modalities]


@attrs.frozen
class Broken:
    """A plugin that cannot be used, with the reason; `claims` are the kinds and names that it would have added, as far
    as they are known.
    """

    origin: Origin
    reason: str
    claims: frozenset[tuple[str, str]] = frozenset()


@attrs.frozen
class Registry:
    """All names that plugins add, by kind, and the plugins that cannot be used. Plugins are unusable if they are
    broken, switched off, or local files that must not be run (`unread`).

    `imports` says whether a run file may make the program import installed packages that are not plugins.
    """

    names: Mapping[str, Mapping[str, Named]]
    broken: tuple[Broken, ...] = ()
    disabled: tuple[Origin, ...] = ()
    unread: tuple[Path, ...] = ()
    imports: bool = True

    def of_kind(self, kind: str) -> Mapping[str, Named]:
        return self.names.get(kind, {})

    def offered(self, kind: str) -> list[str]:
        """Return the names of a kind that are offered to users: all but those whose class declares `deprecated = True`."""
        return sorted(name for name, named in self.of_kind(kind).items() if not getattr(named.value, "deprecated", False))

    def may_come_from_unread(self, kind: str, name: str) -> bool:
        """Return whether a name is not registered, but may be defined in a file that was not run."""
        return bool(self.unread) and name not in self.of_kind(kind)

    def get(self, kind: str, name: str, where: str = "") -> Named:
        """Return the object that is registered under `name`.

        Raises:
            ConfigError: nothing is registered under this name; the error suggests the nearest name.
            PluginError: the plugin that would add this name is broken or switched off.
        """
        found = self.of_kind(kind).get(name)
        if found is not None:
            return found
        what = f'the {spoken(kind)} "{name}"'
        for broken in self.broken:
            if (kind, name) in broken.claims or name == broken.origin.plugin:
                raise PluginError(
                    f"{what} comes from a broken plugin, {broken.origin}: {broken.reason}",
                    where=where,
                    remedy="Fix or uninstall the plugin; `ltx plugins list` shows all broken plugins.",
                )
        for origin in self.disabled:
            if name == origin.plugin:
                raise PluginError(
                    f"{what} comes from {origin}, a plugin that {DISABLE} switches off", where=where, remedy=f"Remove it from {DISABLE}."
                )
        remedy = suggestion(name, self.offered(kind))
        if self.broken:
            remedy += f" Or it comes from a broken plugin: {listed(str(broken.origin) for broken in self.broken)}; see `ltx plugins list`."
        raise ConfigError(f'there is no {spoken(kind)} "{name}"', where=where, remedy=remedy)


def load(local: Iterable[Path] = (), disabled: Iterable[str] | None = None) -> Registry:
    """Load every plugin: first those that come with ltx, then the other installed entry points of the group `ltx`, then
    local files.

    Args:
        local: Python files to use as plugins for this run only.
        disabled: the names of plugins to leave out; by default, the comma-separated names in LTX_DISABLE_PLUGINS.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    off = {name.strip() for name in (os.environ.get(DISABLE, "").split(",") if disabled is None else disabled)}
    names: dict[str, dict[str, Named]] = {kind: {} for kind in HOOKS}
    broken: list[Broken] = []
    switched_off: list[Origin] = []
    for origin, load_module in [*_installed(), *_local(local)]:
        if origin.plugin in off:
            switched_off.append(origin)
            continue
        added: list[Named] = []
        try:
            _register(manager, load_module(), origin, added)
            for item in added:
                check(item)
                _check_free(names, item)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code may raise anything, and the other plugins go on
            broken.append(Broken(origin, _reason(error), frozenset((item.kind, item.name) for item in added)))
            continue
        for item in added:
            names[item.kind][item.name] = item
    _leave_out_without_columns(names, broken)
    return Registry(names, tuple(broken), tuple(switched_off))


def load_with(files: Iterable[Path]) -> Registry:
    """Load every installed plugin, and Python files that must be working plugins.

    Raises:
        PluginError: plugins in these files are broken; the error names all of them.
    """
    local = [file.absolute() for file in files]
    registry = load(local)
    reasons = {broken.origin.plugin: broken.reason for broken in registry.broken}
    broken = [Problem(f"this plugin is broken: {reasons[name]}", name, "Fix it.") for name in map(str, local) if name in reasons]
    if broken:
        raise PluginError.of(broken)
    return registry


# ---------------------------------------------------------------- finding


def _installed() -> list[tuple[Origin, Callable[[], Any]]]:
    """Return the entry points of the group. They are searched for again when a folder that Python imports from has been
    changed or replaced.
    """
    return _found(tuple((folder, _changed(folder)) for folder in sys.path))


def _changed(folder: str) -> int:
    try:
        return os.stat(folder or ".").st_mtime_ns  # noqa: PTH116 - "" is the working directory here, and no path
    except OSError:
        return 0


@functools.lru_cache(maxsize=4)
def _found(_: tuple[tuple[str, int], ...]) -> list[tuple[Origin, Callable[[], Any]]]:
    found = [pair for distribution in importlib.metadata.distributions() for pair in _of_distribution(distribution)]
    # Python imports the first distribution on the path, so a distribution that is installed twice counts once.
    once = {(re.sub(r"[-_.]+", "-", origin.distribution).lower(), origin.plugin): (origin, loader) for origin, loader in reversed(found)}
    return sorted(once.values(), key=lambda pair: (pair[0].distribution != "ltx", pair[0].distribution, pair[0].plugin))


def _of_distribution(distribution: importlib.metadata.Distribution) -> Iterator[tuple[Origin, Callable[[], Any]]]:
    try:
        points = distribution.entry_points.select(group=GROUP)
    except Exception as error:  # noqa: BLE001 - a distribution with a garbled list of entry points must not stop the others
        fault = error
        if GROUP in (distribution.read_text("entry_points.txt") or ""):
            yield _origin(distribution, "?"), lambda: refuse(f"the entry points cannot be read: {type(fault).__name__}: {fault}")
        return
    if points:
        origin = _origin(distribution, "?")
        yield from ((attrs.evolve(origin, plugin=point.name), point.load) for point in points)


def _origin(distribution: importlib.metadata.Distribution, plugin: str) -> Origin:
    about = distribution.metadata  # this property is read and parsed on every access
    return Origin(plugin, about["Name"] or "unnamed distribution", about["Version"] or "")


def _local(paths: Iterable[Path]) -> list[tuple[Origin, Callable[[], Any]]]:
    def loader(path: Path) -> Callable[[], ModuleType]:
        return lambda: _module_of_file(path)

    files: dict[Path, Path] = {}
    for path in paths:  # a run file and an option may name the same file
        files.setdefault(path.resolve(), path)
    return [(Origin(str(path), "local file", ""), loader(path)) for path in files.values()]


def imported(target: str, what: str) -> Any:
    """Import an object that a plugin names as "package.module:attribute".

    Raises:
        PluginError: the object cannot be imported; the error names `what`, which needs the object.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise PluginError(f"{what} cannot be imported: {_reason(error)}", remedy="Fix or uninstall the plugin.") from error


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        refuse("there is no such file")
    # Two files with the same name must not share a module, because the types of a class are looked up in its module.
    name = f"ltx_local_{path.stem}_{hashlib.blake2b(str(path.resolve()).encode(), digest_size=4).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        refuse("a local plugin is a Python file, ending in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


# ---------------------------------------------------------------- registering


def _register(manager: pluggy.PluginManager, plugin: Any, origin: Origin, added: list[Named]) -> None:
    """Call the hooks of a plugin, and put everything that they return into `added`, even if a later hook fails."""
    _check_hooks(manager, plugin)
    twice = manager.get_name(plugin)
    if twice is not None:
        refuse(f"the module is already registered by {twice}; a module needs only one entry point")
    manager.register(plugin, name=str(origin))
    others = [other for other in manager.get_plugins() if other is not plugin]
    for kind, hook in HOOKS.items():
        for mapping in manager.subset_hook_caller(hook, remove_plugins=others)():
            if not isinstance(mapping, Mapping):
                refuse(f"{hook} returns {type(mapping).__name__}, not a mapping from names")
            for name, value in mapping.items():
                if not isinstance(name, str) or not name:
                    refuse(f"{hook} names something {name!r}; names must be non-empty strings")
                added.append(Named(name, kind, value, origin))


def _check_hooks(manager: pluggy.PluginManager, plugin: Any) -> None:
    known = list(HOOKS.values())
    offered = 0
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            continue
        offered += 1
        hook = options.get("specname") or name
        if hook not in known:
            refuse(f'there is no hook "{hook}". {suggestion(hook, known)}')
        parameters = inspect.signature(getattr(plugin, name)).parameters
        if parameters:
            refuse(f"{hook} takes ({', '.join(parameters)}); a hook must not take any parameters")
    if not offered:
        refuse("it offers no hook. Mark at least one function with ltxcore.api.hookimpl.")


def _reason(error: BaseException) -> str:
    """Describe an error in a plugin's code, and its place in the code."""
    if isinstance(error, PluginError):
        return str(error)
    ends = "it ends the program: " if isinstance(error, SystemExit) else ""
    said = f"{ends}{reason_of(error)}"
    if isinstance(error, SyntaxError):  # this error already names its place
        return redacted(said)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(NOT_THE_PLUGIN)]
    return redacted(f"{said} ({'/'.join(Path(frames[-1].filename).parts[-2:])}, line {frames[-1].lineno})") if frames else redacted(said)


# ---------------------------------------------------------------- checking


def _check_free(names: Mapping[str, Mapping[str, Named]], item: Named) -> None:
    taken = names[item.kind].get(item.name)
    if taken is not None:
        refuse(f'the {spoken(item.kind)} "{item.name}" of {item.origin} is already registered by {taken.origin}')


def _leave_out_without_columns(names: Mapping[str, dict[str, Named]], broken: list[Broken]) -> None:
    """Move to the broken plugins those whose conditions read columns that do not exist or do not fit. This is known only when all plugins
    are loaded, and a plugin that is left out may take with it the column that another one needs.
    """
    while True:
        known = {name: item.value for name, item in names["column"].items()}
        faults: dict[Origin, str] = {}
        for item in names["condition"].values():
            for fault in declarations.faults_of_columns(item.value, known):
                faults.setdefault(item.origin, f'the condition "{item.name}" {fault}')
        if not faults:
            return
        for origin, fault in faults.items():
            claims = frozenset((item.kind, item.name) for each in names.values() for item in each.values() if item.origin == origin)
            broken.append(Broken(origin, fault, claims))
            for kind, name in claims:
                del names[kind][name]


def check(item: Named) -> None:
    """Check an object that a plugin adds against its protocol, as far as is possible without using it.

    Raises:
        PluginError: the object breaks its protocol; the error says how.
    """
    declarations.check(item.kind, item.name, item.value)
