"""The command ``psegan data``: download a corpus, check it, protect it."""
