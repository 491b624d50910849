"""Preprocessing: raw media encoded into sets of latents, text features and masks."""
