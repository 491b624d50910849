"""VAEs and text encoders: clips and sounds to latents, captions to text features, and back."""
