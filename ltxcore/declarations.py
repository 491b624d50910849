"""What the classes of plugins declare, checked against the protocols as far as that is possible without using them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import attrs

from ltxcore import objectives, sources
from ltxcore.errors import PluginError
from ltxcore.protocols import MODALITIES, LazyCommand, Role

METHODS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "condition": ("apply",),
        "strategy": ("build",),
        "objective": ("loss",),
        "sigma_sampler": ("sample",),
        "optimizer": ("build", "state_bytes"),
        "schedule": ("build",),
        "source": ("read",),
        "quantizer": ("store", "weight_bytes"),
        "tracker": ("start", "log", "sample", "finish"),
    }
)
"""The kinds that are attrs classes, with the methods that they must have."""

KEYS_OF_THE_CORE = frozenset(
    {"type", "probability", "modality", "include_in_output", "downscale_factor", "temporal_scale_factor", "image_or_video", *MODALITIES}
)
"""The keys that the core adds to the tables of every condition; a condition's own fields must have other names."""


def check(kind: str, name: str, value: Any) -> None:
    """Check what a plugin adds against its protocol, as far as that is possible without using it.

    Raises:
        PluginError: it breaks its protocol; the error says how.
    """
    what = f'the {spoken(kind)} "{name}"'
    if kind in METHODS:
        _check_class(value, what, METHODS[kind])
    checks = {"condition": _check_condition, "optimizer": _check_optimizer, "quantizer": _check_quantizer, "source": _check_source}
    if kind in checks:
        checks[kind](value, what)
    for fault in objectives.faults_of(name, value) if kind == "objective" else ():
        refuse(f"{what} {fault}")
    if kind == "reference_filter" and not callable(value):
        refuse(f"{what} is not a function")
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
    _check_roles(roles_of(cls), what)
    taken = KEYS_OF_THE_CORE.union(*((role.source_key, role.media_key or role.name) for role in roles_of(cls)))
    clashing = sorted(taken & {field.alias or field.name for field in attrs.fields(cls)})
    if clashing:
        refuse(f'{what} has a field "{clashing[0]}", which is a key that all conditions have, or one of its roles')


def _check_optimizer(cls: Any, what: str) -> None:
    taken = sorted({"lr", "learning_rate", "weight_decay"} & {field.alias or field.name for field in attrs.fields(cls)})
    if taken:
        refuse(f'{what} has a field "{taken[0]}", which [optimization] itself sets for all optimizers')
    stages = zero_stages_of(cls)
    if not isinstance(stages, frozenset) or not stages <= {1, 2, 3}:
        refuse(f"{what} has zero_stages {stages!r}; they must be a frozenset of 1, 2 and 3")
    copies = getattr(cls, "copies_in_step", 0)
    if isinstance(copies, bool) or not isinstance(copies, int) or copies < 0:
        refuse(f"{what} has copies_in_step {copies!r}; it must be a whole number of at least 0")
    choices = ("schedules_itself", "decays_weights", "updates_alone", "shares_learning_rate")
    _check_said(cls, what, numbers=("learning_rate",), choices=choices)


def _check_quantizer(cls: Any, what: str) -> None:
    if not hasattr(cls, "error"):
        refuse(f"{what} does not say its error, the largest relative error of a restored matrix")
    _check_said(cls, what, numbers=("error", "restoring_bytes"), choices=("low_precision",))


def _check_said(cls: Any, what: str, numbers: Iterable[str], choices: Iterable[str]) -> None:
    """Check what a class says about itself: the packages that it needs, numbers above 0, and what is True or False.

    A property cannot be checked here, since it depends on the object.
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


def zero_stages_of(optimizer: Any) -> frozenset[int]:
    """Return the ZeRO stages under which an optimizer, or its class, declares that it trains as in one process."""
    return getattr(optimizer, "zero_stages", frozenset())


def _check_roles(roles: Any, what: str) -> None:
    if not isinstance(roles, tuple) or not all(isinstance(role, Role) for role in roles):
        refuse(f"{what} has roles {roles!r}; they must be a tuple of ltxcore.api.Role")
    for index, role in enumerate(roles):
        if role.kind not in ("mask", "latents"):
            refuse(f'{what} has a role "{role.name}" of kind {role.kind!r}; it must be "mask" or "latents"')
        if role.source_key in KEYS_OF_THE_CORE:
            refuse(f'{what} has a role "{role.name}" with the source key "{role.source_key}", which is a key that all conditions have')
        for other in roles[:index]:
            if role.name == other.name or role.source_key == other.source_key:
                refuse(f'{what} has two roles with the name or source key of "{role.name}"')


def roles_of(cls: Any) -> tuple[Role, ...]:
    """Return the roles of a class of conditions or objectives; none if it names none."""
    return getattr(cls, "roles", ())


def content_of(cls: Any) -> str | None:
    """Return where a condition class says that its own medium lies on the target; None if it has no medium."""
    return getattr(cls, "content", None)


def spoken(kind: str) -> str:
    return kind.replace("_", " ")


def refuse(reason: str) -> NoReturn:
    raise PluginError(reason)
