"""Brackets and quotation marks that are opened and not closed, where that is certain.

Marks are not a language: an interval is [0, 1) or ]0, 1[, a face is :( or (-:, an item of a list is a), an inch is ",
Swedish quotes are ”…”, German ones „…“ or »…«, French ones « … », and people type "( … ]". So nothing is open that any
closing mark may have closed, and nothing at all in a text that came to its full stop.
"""

import re
from typing import Literal

Open = Literal["open_bracket", "open_quote"]

_BRACKETS = dict(zip("([{（［｛【〔〖「『《〈⟨", ")]}）］｝】〕〗」』》〉⟩", strict=True))
_CLOSING = frozenset(_BRACKETS.values())

_NUMBER = r"[-−–+±]?\s*(?:\d[\d.,]*\s*%?|∞|\\?infty|\w{1,8})"
_INTERVAL = re.compile(rf"[\[\](]\s*{_NUMBER}\s*[,;…]\s*{_NUMBER}\s*[\[\])]")
_FACE = re.compile(
    r"(?:[>}\])]?[:;=8xX][-'’,o^~*]{0,2}[(\[{@<]+)"  # :( :-( :'( =[ >:(
    r"|(?:[(\[{]+[-'’o^~*]{0,2}[:;=](?![\w(]))"  # (: (-; (=
    r"|(?<=\w)[(（]{2,}\s*$"  # жаль((
    r"|(?<=\w)[(（]\s*$"  # жаль(
)
_STOP = re.compile(r"[.!?。！？।؟‽]['\"’”“»«›‹」』)\]）】]*$")
_ANY_QUOTE = re.compile("[“”„‟\"＂«»‹›〝〞〟]|''|``|’’|‘‘")
_BEFORE = r"(?:^|(?<=[\s([{（【—–-]))"
_OPENED_QUOTE = re.compile(rf"{_BEFORE}[“”„‟»«‹›〝](?=[^\W_])")


def open_mark(text: str) -> Open | None:
    """What a text opens and certainly does not close.

    Brackets: one after which nothing closes it, by its own kind or by another where no bracket of that kind is open;
    intervals and faces are left out. Quotation marks: the only one of a text, of whatever kind, before a word and after
    a space or a bracket; straight ones and single ones, which are inches, feet and apostrophes too, tell nothing.
    """
    if not _STOP.search(text):
        if _open_brackets(text):
            return "open_bracket"
        if _OPENED_QUOTE.search(text) and len(_ANY_QUOTE.findall(text)) == 1:
            return "open_quote"
    return None


def _open_brackets(text: str) -> list[str]:
    """The brackets that are open at the end, by what would close them."""
    if not any(opening in text for opening in _BRACKETS):
        return []
    text = _FACE.sub(" ", _INTERVAL.sub(" ", text))
    waiting: list[str] = []
    outward = 0
    for sign in text:
        if sign in _BRACKETS:
            waiting.append(_BRACKETS[sign])
        elif sign in _CLOSING and waiting:
            # Of its own kind, with all that was forgotten inside; else of another, as in "( … ]".
            own = len(waiting) - 1 - waiting[::-1].index(sign) if sign in waiting else len(waiting) - 1
            del waiting[own:]
        elif sign == "]":
            outward += 1
    # ]a, b + 1[ is an interval as well.
    while outward and "]" in waiting:
        waiting.remove("]")
        outward -= 1
    return waiting
