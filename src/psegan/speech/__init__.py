"""Waveforms and spectrograms: reading, batching, masks, pitch."""
