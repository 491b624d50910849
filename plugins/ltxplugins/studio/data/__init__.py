"""The screen of the data: clips, captions, and what the doctor finds."""
