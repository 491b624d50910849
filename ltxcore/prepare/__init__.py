"""Making a dataset and looking at it: scenes from films, captions, reference clips, and encoded samples back to files that play."""
