"""What an error message suggests in place of a word that is not known."""

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown word: the most similar known word, or else all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"


def examples(word: str, known: Iterable[str]) -> list[str]:
    """The three most similar of many known words, however little they are alike."""
    return difflib.get_close_matches(word, sorted(known), n=3, cutoff=0)
