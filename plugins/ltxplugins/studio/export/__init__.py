"""The screen that exports and publishes LoRAs."""
