"""Measures how fast psegan trains, evaluates and protects: ``make bench``."""
