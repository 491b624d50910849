"""The modalities, which turn latents of video and audio into tokens and know where the tokens lie."""
