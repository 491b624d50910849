"""Preprocessing, which encodes raw media into sets of samples: latents, masks, text features and others."""
