"""Modalities: how the latents of video and audio become tokens, and where the tokens lie."""
