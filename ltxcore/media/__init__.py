"""Media files to clips and sounds, and back."""
