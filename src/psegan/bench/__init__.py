"""``make bench``: how fast psegan trains, evaluates and protects."""
