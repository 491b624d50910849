"""Run files: their text, their values, and their mistakes. Provisional until 1.0."""

from ltxcore.config.load import text_of
from ltxcore.config.locate import locate
from ltxcore.config.render import document, value_text
from ltxcore.config.scalars import described
from ltxcore.config.toml import excesses, parsed_toml
from ltxcore.config.trainers import trainer_of
from ltxcore.errors import did_you_mean, suggestion
from ltxcore.runs.refusals import refusals

__all__ = [
    "described",
    "did_you_mean",
    "document",
    "excesses",
    "locate",
    "parsed_toml",
    "refusals",
    "suggestion",
    "text_of",
    "trainer_of",
    "value_text",
]
