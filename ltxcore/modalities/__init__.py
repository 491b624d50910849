"""The modalities, which turn latents of video and audio into tokens and know the position of each token."""
