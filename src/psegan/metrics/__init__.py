"""Numbers from scores and waveforms; nothing here knows a corpus or Lightning."""
