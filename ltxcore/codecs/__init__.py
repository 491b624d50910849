"""VAEs and text encoders: they turn clips and audio into latents and back, and captions into text features."""
