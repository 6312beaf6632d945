"""Personal data in a text, by rule: e-mail addresses, telephone numbers, numbers of persons, cards and accounts.

Rules miss names and streets. What has check digits counts only where they are right.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,4}[^\W\d_]{2,24}")
_PHONES = re.compile(
    r"(?<![\w.+])\+\d{1,3}(?:[ ().-]{0,2}\d){7,12}(?!\d)"  # +44 20 7946 0958
    r"|(?<![\w.-])(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"  # (212) 555-0147
    r"|(?<![\w.-])(?<!\d )0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,5}(?! ?\d|[\w-])"  # 030 1234 5678
    r"|(?<!\d)1[3-9]\d{9}(?!\d)"  # a Chinese mobile
)
_SOCIAL_SECURITY = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_CARD = re.compile(r"(?<![\w.-])[3-6]\d{3}(?:[ -]?\d){9,15}(?![\w-])")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[0-9A-Z]){11,30}(?!\w)")
_RESIDENT = re.compile(r"(?<!\d)[1-9]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])\d{5}[\dXx](?!\d)")


@dataclass(frozen=True)
class PersonalData:
    """How much of it stands in a text."""

    emails: int
    phones: int
    identifiers: int


def personal_data(text: str) -> PersonalData:
    """Personal data of a text, each counted as often as it stands there. Time is linear in the length."""
    emails = len(_EMAIL.findall(text)) if "@" in text else 0
    # Longer numbers first: a card is no telephone.
    identifiers = 0
    for pattern, right in ((_IBAN, _iban), (_CARD, _luhn), (_RESIDENT, _resident), (_SOCIAL_SECURITY, bool)):
        text, count = _without(text, pattern, right)
        identifiers += count
    return PersonalData(emails, len(_PHONES.findall(text)), identifiers)


def _without(text: str, pattern: re.Pattern[str], right: Callable[[str], bool]) -> tuple[str, int]:
    """The text without what is found in it and right, and how often it was."""
    count = 0

    def replacement(found: re.Match[str]) -> str:
        nonlocal count
        if not right(found.group()):
            return found.group()
        count += 1
        return " "

    return pattern.sub(replacement, text), count


def _luhn(number: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    digits = [int(character) for character in number if character.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(number: str) -> bool:
    """ISO 13616: the number turned and read with letters as 10 to 35 leaves 1 modulo 97."""
    code = number.replace(" ", "")
    return 15 <= len(code) <= 34 and int("".join(str(int(c, 36)) for c in code[4:] + code[:4])) % 97 == 1


def _resident(number: str) -> bool:
    """GB 11643-1999, whose last digit is that of ISO 7064 MOD 11-2."""
    weights = [pow(2, 17 - i, 11) for i in range(17)]
    total = sum(weight * int(digit) for weight, digit in zip(weights, number, strict=False))
    return "10X98765432"[total % 11] == number[-1].upper()
