"""Codecs: media files to clips and sounds, clips and sounds to latents, captions to text features, and back."""
