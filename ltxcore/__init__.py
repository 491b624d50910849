"""ltx: fine-tune the LTX-2 audio-video model, and add your own conditions to it."""

__version__ = "0.1.0"
