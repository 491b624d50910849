"""The sources that come with ltx, which read datasets. Each source uses only the public API."""

from ltxcore.api import hookimpl
from ltxplugins.sources.folder import Folder
from ltxplugins.sources.huggingface import HuggingFace
from ltxplugins.sources.table import TableFile


@hookimpl
def ltx_sources() -> dict[str, type]:
    return {"table": TableFile, "folder": Folder, "huggingface": HuggingFace}
