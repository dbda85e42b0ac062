"""psegan: speech attribute privacy. Speech in, speech out, and everything else measures that."""

__version__ = "0.1.0"
