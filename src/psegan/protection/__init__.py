"""Recordings in, protected recordings out: protectors, controls, export."""
