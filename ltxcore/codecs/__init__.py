"""VAEs, which turn clips and audio into latents and back, and text encoders, which turn captions into text features."""
