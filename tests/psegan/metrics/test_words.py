"""Word errors against alignments by hand and a direct calculation."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psegan.metrics.words import plain_words, word_errors

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=6)


def levenshtein(reference: list[str], heard: list[str]) -> int:
    """By the textbook's table."""
    table = np.zeros((len(reference) + 1, len(heard) + 1), dtype=int)
    table[:, 0], table[0, :] = np.arange(len(reference) + 1), np.arange(len(heard) + 1)
    for i, j in itertools.product(range(1, len(reference) + 1), range(1, len(heard) + 1)):
        other = table[i - 1, j - 1] + (reference[i - 1] != heard[j - 1])
        table[i, j] = min(other, table[i - 1, j] + 1, table[i, j - 1] + 1)
    return int(table[-1, -1])


@pytest.mark.parametrize(
    ("reference", "heard", "errors"),
    [
        ("Kids are talking by the door", "Kids are talking by the door.", (0, 6)),
        ("Kids are talking by the door", "KIDS, are talking -- by the door!", (0, 6)),
        ("Kids are talking by the door", "kids were talking by door", (2, 6)),
        ("Kids are talking by the door", "", (6, 6)),
        ("Kids are talking by the door", "um " * 50, (6, 6)),  # nobody is worse than who hears nothing
        ("it's late", "it’s late", (0, 2)),
        ("Lubię czytać przed snem.", "lubię CZYTAĆ przed snem", (0, 4)),
        ("", "something", (0, 0)),
        ("...", "", (0, 0)),
    ],
)
def test_errors_by_hand(reference: str, heard: str, errors: tuple[int, int]) -> None:
    assert word_errors(reference, heard) == errors


@given(WORDS, WORDS)
def test_errors_are_those_of_the_best_alignment(reference: list[str], heard: list[str]) -> None:
    errors, words = word_errors(" ".join(reference), " ".join(heard))
    assert words == len(reference)
    assert errors == min(levenshtein(reference, heard), len(reference))


def test_an_apostrophe_within_a_word_stays() -> None:
    assert plain_words("'Don't' -- he_said; well‑known") == "don't he said well known"
