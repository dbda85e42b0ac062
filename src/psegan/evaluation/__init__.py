"""Measuring privacy and utility: metrics, intervals, the tidy table of results and the page that shows it.

Nothing here knows a system by name: a score is a score, whoever produced the speech.
"""
