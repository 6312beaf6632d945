"""Noise in a text: what was not written to be read. Addresses, coded data, markup that was left, text decoded
wrongly."""

import re

_LATER = "\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d\u2018\u2019"
_LATER += "\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178"
"""What Windows-1252 makes of the later bytes of a character in UTF-8."""

_NOISE = re.compile(
    r"(?:https?://|www\.)[!-~]+"
    r"|data:[\w/+.-]{1,60};base64,[!-~]*"
    r"|[!-~]{60,}"
    r"|(?<![0-9A-Za-z])(?=[a-z+/]*[A-Z0-9+/])(?=[A-Z+/]*[a-z0-9+/])(?=[0-9A-Za-z+/]*\d)[0-9A-Za-z+/]{24,}={0,2}"
    r"|(?<![0-9A-Za-z])(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{16,}(?![0-9A-Za-z])"
    r"|(?:%[0-9A-Fa-f]{2}){2,}"
    r"|(?:\\u[0-9a-fA-F]{4}){1,}|(?:\\x[0-9a-fA-F]{2}){2,}"
    r"|</?[a-zA-Z][^<>\n]{0,200}>|&(?:[a-zA-Z]{2,8}|#\d{1,7}|#x[0-9a-fA-F]{1,6});"
    rf"|[\u00c2\u00c3][{_LATER}]|\u00e2[{_LATER}]{{2}}|(?:[\u00d0\u00d1][{_LATER}]){{2,}}"
    rf"|(?:[\u00e0-\u00ef][{_LATER}]{{2}}){{2,}}"
    "|\u00ef\u00bf\u00bd|[\ufffd\ue000-\uf8ff\u0000-\u0008\u000b\u000e-\u001f\u007f]"
)


def noisy_share(text: str) -> float:
    """Share of a text's characters, spaces apart, that are noise: 0 to 1. Time is linear in the length."""
    visible = len(text) - sum(map(str.isspace, text))
    noisy = sum(len("".join(found.group().split())) for found in _NOISE.finditer(text))
    return noisy / visible if visible else 0.0
