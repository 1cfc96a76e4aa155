"""What may be an e-mail address, a username, a password or a key's name.

Each check returns the text as it will be kept, or raises ValueError with one sentence that does
not repeat the text.
"""

import re
from collections.abc import Callable

from email_validator import EmailNotValidError, validate_email

from tertulia.domain.errors import Invalid

EMAIL_CHARS_MAX = 100
USERNAME_CHARS_MIN = 3
USERNAME_CHARS_MAX = 50
PASSWORD_CHARS_MIN = 6
"""The seed's. NIST SP 800-63B (5.1.1) would have 8; a server's owner may close registration."""
PASSWORD_CHARS_MAX = 128
KEY_NAME_CHARS_MAX = 100

# Characters that count as letters, marks or symbols and show nothing (Unicode 16, property
# Default_Ignorable_Code_Point, those which `str.isprintable` lets pass): with them two names could
# look the same. Blank Braille is the same trick with a symbol.
_INVISIBLE_PATTERN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)


def check_email(text: str) -> str:
    """Return the address in its normal form (RFC 5321 and 6531): domain in lower case, NFC.

    Nothing is asked of the network; whether mail arrives there is not known.
    """
    _check_length(text, 3, EMAIL_CHARS_MAX)
    try:
        normal = validate_email(text, check_deliverability=False).normalized
    except EmailNotValidError:
        raise ValueError("Must be an e-mail address") from None
    _check_length(normal, 3, EMAIL_CHARS_MAX)
    return normal


def check_username(text: str) -> str:
    """Return the name as it is: 3 to 50 visible characters of any script, a letter or digit in it.

    Single spaces within are allowed; control, format and invisible characters are not.
    """
    _check_length(text, USERNAME_CHARS_MIN, USERNAME_CHARS_MAX)
    _check_visible(text)
    if "  " in text:
        raise ValueError("Must not have two spaces in a row")
    # Marks alone would be shown on whatever stands before the name.
    if not any(character.isalnum() for character in text):
        raise ValueError("Must have a letter or a digit")
    return text


def check_password(text: str) -> str:
    """Return the password as it is: 6 to 128 characters, whichever they are."""
    _check_length(text, PASSWORD_CHARS_MIN, PASSWORD_CHARS_MAX)
    return text


def check_key_name(text: str) -> str:
    """Return the name as it is: 1 to 100 visible characters."""
    _check_length(text, 1, KEY_NAME_CHARS_MAX)
    _check_visible(text)
    return text


def checked(check: Callable[[str], str], text: str, name: str) -> str:
    """Return what the check returns.

    Raises:
        Invalid: The check refused the text; the error names it `body.<name>`.
    """
    try:
        return check(text)
    except ValueError as error:
        raise Invalid(str(error), field=f"body.{name}") from error


def _check_length(text: str, least: int, most: int) -> None:
    if not least <= len(text) <= most:
        raise ValueError(f"Must be {least} to {most} characters long")


def _check_visible(text: str) -> None:
    if text != text.strip():
        raise ValueError("Must not begin or end with a space")
    # Not printable are controls, format characters, surrogates, private and unassigned characters
    # and every space but U+0020.
    if not text.isprintable() or _INVISIBLE_PATTERN.search(text):
        raise ValueError("Must not hold invisible characters")
