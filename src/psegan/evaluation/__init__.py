"""Measuring privacy and utility: protected corpora, attackers, their predictions, scores, and what is published."""
