"""Check the declarations of plugins' classes against the protocols, as far as is possible without using the classes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import attrs

from ltxcore import adapters, columns, exporters, objectives, sources
from ltxcore.errors import PluginError, suggestion
from ltxcore.protocols import MODALITIES, LazyCommand, Role

METHODS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "condition": ("apply",),
        "strategy": ("build",),
        "objective": ("loss",),
        "sigma_sampler": ("sample",),
        "adapter": ("wrap", "tensors", "shapes", "start", "weight", "measure"),
        "optimizer": ("build", "state_bytes"),
        "schedule": ("build",),
        "source": ("read",),
        "column": (),
        "quantizer": ("store", "weight_bytes"),
        "exporter": ("tensors", "weight"),
        "tracker": ("start", "log", "sample", "finish"),
    }
)
"""The kinds whose plugins are attrs classes, each with the methods that the class must have."""

KEYS_OF_THE_CORE = frozenset(
    {"type", "probability", "modality", "include_in_output", "downscale_factor", "temporal_scale_factor", "image_or_video", *MODALITIES}
)
"""The keys that the core adds to the table of every condition. The fields of a condition must have other names."""

KEPT = ("float8_e4m3fn", "float8_e5m2")
"""The dtypes of 8-bit numbers that checkpoints have and that a quantizer can keep as they are."""


def check(kind: str, name: str, value: Any) -> None:
    """Check an object that a plugin adds against its protocol, as far as is possible without using it.

    Raises:
        PluginError: the object breaks its protocol; the error says how.
    """
    what = f'the {spoken(kind)} "{name}"'
    if kind in METHODS:
        _check_class(value, what, METHODS[kind])
    checks = {
        "condition": _check_condition,
        "adapter": _check_adapter,
        "optimizer": _check_optimizer,
        "quantizer": _check_quantizer,
        "source": _check_source,
        "exporter": _check_exporter,
        "column": _check_column,
        "reference_filter": _check_filter,
    }
    if kind in checks:
        checks[kind](value, what)
    for fault in objectives.faults_of(name, value) if kind == "objective" else ():
        refuse(f"{what} {fault}")
    if isinstance(value, LazyCommand) and not (re.fullmatch(r"[\w.]+:\w+", value.target) and value.help):
        refuse(f'{what} has target "{value.target}" and help "{value.help}"; they must be "package.module:attribute" and a line of text')


def _check_class(cls: Any, what: str, methods: Iterable[str]) -> None:
    if not inspect.isclass(cls) or not attrs.has(cls):
        refuse(f"{what} is not an attrs class")
    for method in methods:
        if not callable(getattr(cls, method, None)):
            refuse(f"{what} has no method {method}()")


def _check_condition(cls: Any, what: str) -> None:
    parameters = list(inspect.signature(cls.apply).parameters)
    if len(parameters) != 3:
        refuse(f"{what} has apply({', '.join(parameters)}); it must take (self, state, inputs)")
    modalities = getattr(cls, "modalities", None)
    if not isinstance(modalities, frozenset) or not modalities or not modalities <= set(MODALITIES):
        refuse(f'{what} has modalities {modalities!r}; they must be a frozenset of "video", "audio" or both')
    if content_of(cls) not in (None, "start", "end", "whole"):
        refuse(f'{what} has content {content_of(cls)!r}; it must be "start", "end", "whole" or None')
    if not isinstance(getattr(cls, "appends", False), bool):
        refuse(f"{what} has appends {cls.appends!r}; it must be True or False")
    redraws = getattr(cls, "redraws", 0)
    if isinstance(redraws, bool) or not isinstance(redraws, int) or redraws < 0:
        refuse(f"{what} has redraws {redraws!r}; it must be a whole number of at least 0")
    if redraws and getattr(cls, "appends", False):
        refuse(f"{what} appends tokens, so it cannot have redraws")
    for field in attrs.fields(cls):
        if field.metadata.get("modality", "") not in ("", *MODALITIES):
            refuse(f'{what} has a field "{field.name}" for the modality {field.metadata["modality"]!r}; it must be "video" or "audio"')
    _check_roles(roles_of(cls), what)
    pictures = [role for role in roles_of(cls) if role.kind == "pictures"]
    if len(pictures) > 1 or (pictures and modalities != {"video"}):
        refuse(f'{what} has the role "{pictures[-1].name}" of kind "pictures"; only a condition on video alone can have one, and only one')
    taken = KEYS_OF_THE_CORE.union(
        ("images", "frames", "times") if pictures else (), *((role.source_key, role.media_key or role.name) for role in roles_of(cls))
    )
    clashing = sorted(taken & {field.alias or field.name for field in attrs.fields(cls)})
    if clashing:
        refuse(f'{what} has a field "{clashing[0]}", which is a key that all conditions have, or one of its roles')


def _check_adapter(cls: Any, what: str) -> None:
    for fault in adapters.faults_of(cls):
        refuse(f"{what} {fault}")
    _check_stages(cls, what)


def _check_optimizer(cls: Any, what: str) -> None:
    taken = sorted({"lr", "learning_rate", "weight_decay"} & {field.alias or field.name for field in attrs.fields(cls)})
    if taken:
        refuse(f'{what} has a field "{taken[0]}", which [optimization] itself sets for all optimizers')
    _check_stages(cls, what)
    copies = getattr(cls, "copies_in_step", 0)
    if isinstance(copies, bool) or not isinstance(copies, int) or copies < 0:
        refuse(f"{what} has copies_in_step {copies!r}; it must be a whole number of at least 0")
    choices = ("schedules_itself", "decays_weights", "updates_alone", "shares_learning_rate")
    _check_said(cls, what, numbers=("learning_rate",), choices=choices)


def _check_quantizer(cls: Any, what: str) -> None:
    if not hasattr(cls, "error"):
        refuse(f"{what} does not say its error, the largest relative error of a restored matrix")
    _check_said(cls, what, numbers=("error", "restoring_bytes"), choices=("low_precision",))
    keeps = getattr(cls, "keeps", "")
    if not isinstance(keeps, property) and keeps not in ("", *KEPT):
        refuse(f'{what} has keeps {keeps!r}; it must be "{KEPT[0]}" or "{KEPT[1]}"')
    if bool(keeps) != callable(getattr(cls, "keep", None)):
        refuse(f"{what} {'has keeps, but no method keep()' if keeps else 'has a method keep(), but keeps does not say what for'}")


def _check_said(cls: Any, what: str, numbers: Iterable[str], choices: Iterable[str]) -> None:
    """Check the declarations of a class: the packages that it needs, its numbers, which must be above 0, and its
    choices, which must be True or False.

    Properties are not checked here, since their values depend on the object.
    """
    needs = getattr(cls, "needs", {})
    if not isinstance(needs, Mapping) or not all(isinstance(text, str) for pair in needs.items() for text in pair):
        refuse(f"{what} has needs {needs!r}; they must be a mapping from the name of a package to the command that installs it")
    for name in numbers:
        number = getattr(cls, name, 1.0)
        if not isinstance(number, property) and (isinstance(number, bool) or not isinstance(number, int | float) or not number > 0):
            refuse(f"{what} has {name} {number!r}; it must be a number above 0")
    for name in choices:
        if not isinstance(getattr(cls, name, False), bool):
            refuse(f"{what} has {name} {getattr(cls, name)!r}; it must be True or False")


def _check_source(cls: Any, what: str) -> None:
    for fault in sources.faults_of(cls):
        refuse(f"{what} {fault}")


def _check_exporter(cls: Any, what: str) -> None:
    for fault in exporters.faults_of(cls):
        refuse(f"{what} {fault}")


def _check_column(cls: Any, what: str) -> None:
    for fault in columns.faults_of(cls):
        refuse(f"{what} {fault}")
    of_media = () if columns.has_encode(cls) else ("type", "downscale_factor", "temporal_scale_factor")
    taken = sorted({"column", *of_media} & {field.alias or field.name for field in attrs.fields(cls)})
    if taken:
        refuse(f'{what} has a field "{taken[0]}", which is a key that all columns have')


def _check_filter(value: Any, what: str) -> None:
    if not callable(value):
        refuse(f"{what} is not a function")
    if inspect.isclass(value):
        _check_class(value, what, ())
        if not any("__call__" in vars(each) for each in value.__mro__):  # getattr would find that of the class of classes
            refuse(f"{what} has no method __call__()")
    makes = getattr(value, "makes", "reference")
    if makes not in ("reference", "mask"):
        refuse(f'{what} has makes {makes!r}; it must be "reference" or "mask"')


def _check_stages(cls: Any, what: str) -> None:
    stages = zero_stages_of(cls)
    if not isinstance(stages, frozenset) or not stages <= {1, 2, 3}:
        refuse(f"{what} has zero_stages {stages!r}; they must be a frozenset of 1, 2 and 3")


def zero_stages_of(part: Any) -> frozenset[int]:
    """Return the ZeRO stages under which an optimizer or adapter, or its class, declares that it trains exactly as in
    one process.
    """
    return getattr(part, "zero_stages", frozenset())


def _check_roles(roles: Any, what: str) -> None:
    if not isinstance(roles, tuple) or not all(isinstance(role, Role) for role in roles):
        refuse(f"{what} has roles {roles!r}; they must be a tuple of ltxcore.api.Role")
    for index, role in enumerate(roles):
        if role.kind not in ("mask", "latents", "pictures", "values"):
            refuse(f'{what} has a role "{role.name}" of kind {role.kind!r}; it must be "mask", "latents", "pictures" or "values"')
        for fault in columns.faults_of_shape(role.shape) if role.kind == "values" else ():
            refuse(f'{what} has a role "{role.name}" of shape {role.shape!r}; {fault}')
        if role.kind != "values" and (role.shape is not None or role.column is not None):
            refuse(f'{what} has a role "{role.name}" of kind {role.kind!r} with a shape or a column, which only "values" have')
        if role.source_key in KEYS_OF_THE_CORE:
            refuse(f'{what} has a role "{role.name}" with the source key "{role.source_key}", which is a key that all conditions have')
        for other in roles[:index]:
            if role.name == other.name or role.source_key == other.source_key:
                refuse(f'{what} has two roles with the name or source key of "{role.name}"')


def faults_of_columns(cls: Any, known: Mapping[str, Any]) -> Iterator[str]:
    """For a class of conditions, yield every role whose column does not exist or is encoded to something else, in words that can follow the
    name of the condition.

    Args:
        cls: the class.
        known: the classes of columns, by the name of the column.
    """
    for role in roles_of(cls):
        if role.column is None:
            continue
        column, shape = known.get(role.column), role.shape or ()
        if column is None:
            of_values = [name for name, each in known.items() if each.kind == "values"]
            hint = suggestion(role.column, of_values)
            yield f'has a role "{role.name}" with the column "{role.column}", but there is no such column. {hint}'
        elif column.kind != "values" or column.modality not in cls.modalities or not columns.may_fit(column.shape, shape):
            takes = f"values {columns.spelled(shape)} of {' or '.join(name for name in MODALITIES if name in cls.modalities)}"
            yield f'has a role "{role.name}" for {takes}, but its column "{role.column}" is encoded to {columns.encoded_to(column)}'


def roles_of(cls: Any) -> tuple[Role, ...]:
    """Return the roles that a class of conditions or objectives declares."""
    return getattr(cls, "roles", ())


def content_of(cls: Any) -> str | None:
    """Return where the medium of a condition class lies on the target; None if the class has no medium."""
    return getattr(cls, "content", None)


def spoken(kind: str) -> str:
    return kind.replace("_", " ")


def refuse(reason: str) -> NoReturn:
    raise PluginError(reason)
