"""VAEs and text encoders, which turn clips and audio into latents, and captions into text features, and latents back."""
