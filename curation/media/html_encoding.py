"""The text of a page's bytes: what they can be decides, before what the page says that they are."""

import re

ENCODINGS = {
    "big5": "big5hkscs",
    "big5-hkscs": "big5hkscs",
    "cp1251": "cp1251",
    "cp936": "gb18030",
    "cp949": "cp949",
    "euc-jp": "euc_jp",
    "euc-kr": "cp949",
    "gb18030": "gb18030",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso-2022-jp": "iso2022_jp",
    "iso-8859-1": "cp1252",
    "iso-8859-2": "iso8859_2",
    "iso-8859-5": "iso8859_5",
    "iso-8859-6": "iso8859_6",
    "iso-8859-7": "iso8859_7",
    "iso-8859-8": "iso8859_8",
    "iso-8859-8-i": "iso8859_8",
    "iso-8859-9": "cp1254",
    "iso-8859-13": "iso8859_13",
    "iso-8859-15": "iso8859_15",
    "koi8-r": "koi8_r",
    "koi8-u": "koi8_u",
    "ks_c_5601-1987": "cp949",
    "latin1": "cp1252",
    "macintosh": "mac_roman",
    "shift-jis": "cp932",
    "shift_jis": "cp932",
    "sjis": "cp932",
    "tis-620": "cp874",
    "iso-8859-11": "cp874",
    "us-ascii": "cp1252",
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "utf-16": "utf-8",
    "utf-16le": "utf-8",
    "utf-16be": "utf-8",
    "unicode": "utf-8",
    "windows-874": "cp874",
    "windows-949": "cp949",
    "windows-31j": "cp932",
    "x-gbk": "gb18030",
    "x-sjis": "cp932",
} | {f"windows-125{i}": f"cp125{i}" for i in range(9)}
"""Names that pages use, and the codecs that browsers take for them (WHATWG Encoding). No other name is looked up.

Where a page says UTF-16 in letters of a byte, it is not."""


_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_XML_ENCODING = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{1,40})""")
_COMMENT = re.compile(rb"<!--.*?(?:-->|$)", re.DOTALL)
_META = re.compile(rb"<meta[\s/]([^>]{0,1000})>", re.IGNORECASE)
_ATTRIBUTE = re.compile(rb"""([^\s=/"'>]{1,40})\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_CHARSET = re.compile(rb"""charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
_SEQUENCE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_ASCII = bytes(range(128))
_FOREIGN = re.compile("[\u00a1-\u00ff\u0152-\u0192]")
_TAGS = r"<(?:script|style)\b.*?</(?:script|style)>|<[^<>]*>"
_MARKUP = re.compile(_TAGS, re.DOTALL | re.IGNORECASE)
_MARKUP_BYTES = re.compile(_TAGS.encode(), re.DOTALL | re.IGNORECASE)

HEAD = 4096
"""Bytes in which a page says how it is written; browsers look at the first 1,024."""

SAMPLE = 1 << 16
"""Bytes that a language's letters are looked for in, where a page does not say how it is written."""

FEW = 64
"""High bytes up to which nothing is guessed from them."""


def decode_page(data: bytes) -> str:
    """The text of a page's bytes.

    A byte order mark decides; then UTF-8, if the bytes are UTF-8, whatever the page says, since text in another
    encoding hardly ever is by chance, and a few broken bytes do not make it another one; then what the page says; then
    a guess from the bytes, where there are enough of them; then Windows-1252. Bytes without meaning become U+FFFD.
    """
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return data.decode(codec, "replace")
    if (wide := _wide(data)) is not None:
        return data.decode(wide, "replace")
    declared = declared_encoding(data)
    # A text in ISO-2022-JP is ASCII to the eye of UTF-8.
    for encoding in ("iso2022_jp" if declared == "iso2022_jp" else "utf-8", declared):
        if encoding is not None:
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError:
                continue
            if encoding != "cp1252" or not _garbled(text):
                return text
    if _mostly_utf8(data, 0.5 if declared == "utf-8" else 0.8):
        return data.decode("utf-8", "replace")
    if declared not in (None, "utf-8", "cp1252") and _mostly(data, declared):
        return data.decode(declared, "replace")
    guessed = _guessed(data)
    for encoding in (guessed, "cp1252"):
        if encoding is not None:
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                continue
    return data.decode(guessed or declared or "cp1252", "replace")


def declared_encoding(data: bytes) -> str | None:
    """The codec of the encoding that the page names; None where it names none that is known.

    By XML's first line, `meta charset`, or `meta content` with `http-equiv`; what a comment or a description says does
    not count.
    """
    if found := _XML_ENCODING.search(data[:1024]):
        return ENCODINGS.get(_name(found.group(1)))
    for meta in _META.finditer(_COMMENT.sub(b"", data[:HEAD])):
        attributes = {
            found[1].lower(): found[2] or found[3] or found[4] or b"" for found in _ATTRIBUTE.finditer(meta[1])
        }
        if b"charset" in attributes:
            # Some write all of the content type into it.
            inner = _CHARSET.search(attributes[b"charset"])
            name = inner[1] if inner else attributes[b"charset"]
        elif b"content" in attributes and attributes.get(b"http-equiv", b"").lower() == b"content-type":
            inner = _CHARSET.search(attributes[b"content"])
            name = inner[1] if inner else b""
        else:
            continue
        if (codec := ENCODINGS.get(_name(name))) is not None:
            return codec
    return None


def _name(name: bytes) -> str:
    return name.strip().decode("ascii", "replace").lower()


def _wide(data: bytes) -> str | None:
    """UTF-16 without its mark: a page begins with "<", or a space, and every other byte of its ASCII is 0."""
    start = data[:64]
    if len(start) < 8 or b"\0" not in start:
        return None
    if not any(start[1::2]) and all(start[::2]):
        return "utf-16-le"
    if not any(start[::2]) and all(start[1::2]):
        return "utf-16-be"
    return None


def _high(data: bytes) -> int:
    """How many bytes are not ASCII."""
    return len(data.translate(None, _ASCII))


def _mostly_utf8(data: bytes, least: float) -> bool:
    """Are that many of the high bytes in sequences of UTF-8? A text in another encoding has hardly any by chance."""
    high = _high(data)
    within = sum(found.end() - found.start() for found in _SEQUENCE.finditer(data))
    return high > 0 and within >= least * high


def _mostly(data: bytes, codec: str) -> bool:
    """Does a codec read all but a hundredth of the high bytes? A page may be cut in the middle of a character."""
    bad = data.decode(codec, "replace").count("\ufffd")
    return bad <= max(2, 0.01 * _high(data))


def _garbled(text: str) -> bool:
    """Is more than half of a text, which says that it is Latin, letters with accents? Then it is in another script."""
    start = text[:SAMPLE]
    foreign = len(_FOREIGN.findall(start))
    return foreign > FEW and foreign > sum(map(str.isalpha, start)) - foreign - _tags(start)


def _tags(text: str) -> int:
    """Letters of a page's tags, scripts and styles."""
    return sum(sum(map(str.isalpha, found)) for found in _MARKUP.findall(text))


def _guessed(data: bytes) -> str | None:
    """What charset-normalizer takes the high bytes for; None where they are few, or it is nothing that pages use."""
    if _high(data[:SAMPLE]) <= FEW:
        return None
    from charset_normalizer import from_bytes

    text = _MARKUP_BYTES.sub(b" ", data[:SAMPLE])
    best = from_bytes(text, cp_isolation=sorted(set(ENCODINGS.values()))).best()
    return None if best is None else best.encoding
