"""Names and values in SQL. Whatever is put into the text of a statement goes through one of these two.

Names of nodes, columns and files are read from stores that strangers may have written: they are quoted, never trusted.
Values that a statement can take as parameters are given as parameters.
"""

from curation.errors import CurateError


class UnquotableName(CurateError):
    """A name, or a text, that SQL cannot hold: empty, with a NUL, or not Unicode. The message shows it."""

    exit_code = 4


def identifier(name: str) -> str:
    """The name of a view or a column, quoted, so that all of it is the name.

    Raises:
        UnquotableName: it is empty, or cannot stand in SQL at all.
    """
    if not name:
        raise UnquotableName("a name is empty; `curate verify` checks the store that it comes from")
    return '"' + _plain(name).replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text, quoted, for the few places that take no parameters (the files of a view).

    Raises:
        UnquotableName: it cannot stand in SQL at all.
    """
    return "'" + _plain(text).replace("'", "''") + "'"


def _plain(text: str) -> str:
    if not isinstance(text, str):
        raise UnquotableName(f"{text!r:.80} is not a text, where a name is expected")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnquotableName(f"{ascii(text)[:80]} is not Unicode and cannot be a name") from error
    if "\0" in text:
        raise UnquotableName(f"{ascii(text)[:80]} has a NUL and cannot be a name")
    return text
