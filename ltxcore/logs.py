"""Show notes and warnings besides the results of a command, with Python's `logging` under the logger "ltx".

The `ltx` program shows notes and warnings on the error stream (`telling`). A program that imports this package controls
them with `logging`; by default, they are not shown.
"""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ltxcore.redact import redacted

LOGGER = logging.getLogger("ltx")
LOGGER.addHandler(logging.NullHandler())

VERBOSITY = "LTX_VERBOSITY"
"""The environment variable that determines how much is shown. Processes that a launcher starts also read it."""

LEVELS = {"quiet": logging.WARNING, "": logging.INFO, "verbose": logging.INFO}
"""The level of our logger for each verbosity."""

LIBRARIES = {
    "DIFFUSERS_VERBOSITY": "info",
    "HF_HUB_VERBOSITY": "info",
    "LOGLEVEL": "INFO",
    "TORCH_CPP_LOG_LEVEL": "INFO",
    "TRANSFORMERS_VERBOSITY": "info",
}
"""The environment variables that make libraries log what they do. The libraries read them when they are imported.
LOGLEVEL is the variable of torch's launcher.
"""


def inform(text: str) -> None:
    """Tell the user what the program does, or how it interprets something."""
    LOGGER.info("%s", redacted(text))


def warn(text: str) -> None:
    """Warn the user about something that is not an error but is probably not intended."""
    LOGGER.warning("%s", redacted(text))


@functools.cache
def notice(text: str) -> None:
    """Warn about something, such as a deprecated name, only once per run, however often, and in however many processes,
    this function is called.

    Python's own DeprecationWarning is hidden from users. Besides, whenever a library changes a filter, Python forgets
    which warnings it has shown.
    """
    if os.environ.get("RANK", "0") == "0":
        warn(text)


def is_quiet() -> bool:
    """Return whether the user wants neither notes nor progress bars."""
    return LOGGER.level > logging.INFO


def is_verbose() -> bool:
    """Return whether the user wants to see what libraries log."""
    return os.environ.get(VERBOSITY) == "verbose"


@contextmanager
def telling(verbosity: str) -> Iterator[None]:
    """Return a context that shows notes and warnings on the error stream. With `verbosity` "quiet", only warnings are
    shown; with "verbose", messages of libraries are shown too.
    """
    root, level, before = logging.getLogger(), LOGGER.level, dict(os.environ)
    ours, others = _Stream(), _Stream()
    others.addFilter(lambda record: record.name.partition(".")[0] != LOGGER.name)
    others.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    LOGGER.addHandler(ours)
    LOGGER.setLevel(LEVELS[verbosity])
    level_of_others = root.level
    if verbosity:
        os.environ[VERBOSITY] = verbosity
    if verbosity == "verbose":
        for name, value in LIBRARIES.items():
            os.environ.setdefault(name, value)
        root.addHandler(others)
        root.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.removeHandler(ours)
        LOGGER.setLevel(level)
        root.removeHandler(others)
        root.setLevel(level_of_others)
        for name in (VERBOSITY, *LIBRARIES):
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]


class _Stream(logging.Handler):
    """A handler that writes to the current error stream, even after a progress bar has replaced the stream to stay
    below the messages.
    """

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(redacted(self.format(record)), err=True)


@contextmanager
def of_first(rank: int) -> Iterator[None]:
    """Return a context in which, of several processes that do the same work, the first shows notes and warnings, and
    the others show only errors.
    """
    level = LOGGER.level
    if rank > 0:
        LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


@contextmanager
def hushed(library: str) -> Iterator[None]:
    """Return a context that hides messages of a library, unless the user asked to see them. It is used where ltx says
    the same in its own words.
    """
    names = [library, *(name for name in logging.root.manager.loggerDict if name.startswith(f"{library}."))]
    loggers = [] if is_verbose() else [logging.getLogger(name) for name in names]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [logging.NullHandler()], False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate


@contextmanager
def unwarned() -> Iterator[None]:
    """Return a context that hides Python warnings of libraries, unless the user asked to see what libraries log."""
    with warnings.catch_warnings():
        if not is_verbose():
            warnings.simplefilter("ignore")
        yield


def adopt(library: str) -> None:
    """Make a library write its log to the error stream, as other libraries do, rather than to standard output."""
    logger = logging.getLogger(library)
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.INFO if is_verbose() else logging.WARNING)
