"""The commands that run many trainings: reproduce, sweep, evaluate."""
