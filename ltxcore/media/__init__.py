"""Functions that read and write media files: clips, pictures and audio."""
