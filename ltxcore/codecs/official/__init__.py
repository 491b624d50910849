"""The VAEs and text encoders of LTX-2, 2.3 and 2.5, read from the official files or from folders in the layout of diffusers."""
