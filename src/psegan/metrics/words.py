"""How many words a recogniser gets wrong."""

import re
import unicodedata

import jiwer

_PUNCTUATION = re.compile(r"[^\w\s']|_|(?<!\w)'|'(?!\w)")


def plain_words(text: str) -> str:
    """The words of a text as they are compared: lower case, without punctuation (an apostrophe within a word stays).

    Example:
        >>> plain_words("Kids are talking -- by the DOOR.")
        'kids are talking by the door'
    """
    return " ".join(_PUNCTUATION.sub(" ", unicodedata.normalize("NFKC", text).replace("’", "'").casefold()).split())


def word_errors(reference: str, heard: str) -> tuple[int, int]:
    """Wrong words and words of the reference.

    Errors are substitutions, deletions and insertions of the alignment with the fewest (Levenshtein), by jiwer, and at most as
    many as the reference has words: who invents words is no worse than who hears none.

    Example:
        >>> word_errors("Kids are talking by the door.", "kids were talking by door")
        (2, 6)
    """
    words, found = plain_words(reference), plain_words(heard)
    total = len(words.split())
    if not total or not found:
        return total, total
    aligned = jiwer.process_words(words, found)
    return min(aligned.substitutions + aligned.deletions + aligned.insertions, total), total
