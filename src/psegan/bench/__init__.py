"""``make bench``: how fast psegan trains, evaluates and protects; ``make gpu``: what a GPU makes of it."""
