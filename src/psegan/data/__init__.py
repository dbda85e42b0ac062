"""The command ``psegan data``: fetch a corpus, check it, protect it."""
