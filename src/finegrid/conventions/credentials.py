"""Addresses without what is secret in them, for everything that is written or said.

A dataset that a user has opened from an address remembers that address, and its origin is written into histories,
attributes, reports and messages. Kept of it are host and path; replaced by *** are

    scheme://USER:PASSWORD@host/...                  everything before the @ (RFC 3986, section 3.2.1)
    ...?X-Amz-Signature=...&sig=...&token=...        values whose names speak of keys, signatures, tokens, passwords
"""

from __future__ import annotations

import re

_HIDDEN = "***"
# One slash where a library has taken the address for a path.
_USER = re.compile(r"(?i)\b([a-z][a-z0-9+.-]+:/{1,2})[^/\s?#'\"<>]*@")
_SECRET = re.compile(
    r"(?i)([?&;](?:[\w.%-]*(?:signature|token|secret|passw|pwd|key|credential|auth)[\w.%-]*|sig)=)[^&;\s#'\"<>]+"
)


def without_credentials(text: str) -> str:
    """The text with *** in place of the user names, passwords, keys and tokens of the addresses in it."""
    if ":/" not in text and "=" not in text:
        return text
    return _SECRET.sub(rf"\g<1>{_HIDDEN}", _USER.sub(rf"\g<1>{_HIDDEN}@", text))
