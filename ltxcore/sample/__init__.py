"""Generation, from noise to latents, with the same states and conditions as training."""
