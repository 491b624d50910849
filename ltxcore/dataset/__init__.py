"""Raw datasets, which are files of rows or folders of media, with their columns, captions and media files."""
