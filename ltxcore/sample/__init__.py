"""Generate samples, from noise to latents, with the same states and conditions as in training."""
