"""A finished run on the Hugging Face Hub: what is uploaded, its model card, and the upload."""
