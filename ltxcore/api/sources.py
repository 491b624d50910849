"""Sources of datasets: their protocol, the tables that they return, and functions for reading folders. Provisional until 1.0."""

from ltxcore.dataset.media_folder import FoundMedia, find_media, kind_of, read_text, stem_of
from ltxcore.files import printable
from ltxcore.sources import Row, SourceType, Table

__all__ = ["FoundMedia", "Row", "SourceType", "Table", "find_media", "kind_of", "printable", "read_text", "stem_of"]
