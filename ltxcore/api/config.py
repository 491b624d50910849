"""Run files: their text, their values, and their mistakes. Provisional until 1.0."""

from ltxcore.config.load import text_of
from ltxcore.config.render import document, value_text
from ltxcore.config.scalars import described
from ltxcore.config.toml import excesses
from ltxcore.errors import did_you_mean, suggestion
from ltxcore.runs.refusals import refusals

__all__ = ["described", "did_you_mean", "document", "excesses", "refusals", "suggestion", "text_of", "value_text"]
