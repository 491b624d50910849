"""Raw datasets: files of rows and folders of media, their columns, captions and media."""
