"""The programs that LoRAs are exported for. Each exporter uses only the public API, and imports what it needs when it is used."""

from ltxcore.api import hookimpl
from ltxplugins.exporters.comfyui import ComfyUI
from ltxplugins.exporters.diffusers import Diffusers
from ltxplugins.exporters.ltx_pipelines import LTXPipelines


@hookimpl
def ltx_exporters() -> dict[str, type]:
    return {"comfyui": ComfyUI, "diffusers": Diffusers, "ltx-pipelines": LTXPipelines}
