"""Reading and writing of media files: clips, pictures and audio."""
