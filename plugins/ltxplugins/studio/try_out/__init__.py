"""The screen that generates samples from a prompt, conditions and LoRAs."""
