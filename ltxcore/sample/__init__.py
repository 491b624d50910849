"""Generation, from noise to latents, on the same states and conditions as training."""
