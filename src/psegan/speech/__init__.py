"""Waveforms and spectrograms: reading and writing, batches, masks, pitch."""
