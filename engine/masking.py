"""Passwords out of what is shown: of one URL, and of text in which there may be some. Pure.

Rules: a password may hold anything, also what has to be percent-encoded in a URL and was not; rather too much
is hidden than too little.
"""

from __future__ import annotations

import re

_SECRET_QUERY = re.compile(
    r"(?P<key>[?&][^=&;]*(?:password|passwd|secret|token|key)[^=&;]*)=[^&;\s]*", re.IGNORECASE
)
_PASSWORD_IN_TEXT = re.compile(r"(?P<head>[a-z][a-z0-9+.\-]*://[^;,\s@:]*):[^\s;]*@", re.IGNORECASE)
_NEXT_URL = re.compile(r";(?=\s*[a-z][a-z0-9+.\-]*://)", re.IGNORECASE)
_PLACE = re.compile(r"(?:\[[^\]]*\]|[^:/?#]*)(?::\d*)?(?:[/?#]|$)")
_USER = re.compile(r"[^:/?#@]*")


def mask_text(text: str) -> str:
    """The text with the passwords of URLs in it replaced by ``**``."""
    return _SECRET_QUERY.sub(r"\g<key>=**", _PASSWORD_IN_TEXT.sub(r"\g<head>:**@", text))


def mask_url(url: str) -> str:
    """One URL, or a failover list ``url1;url2``, with every password replaced by ``**``."""
    return ";".join(map(_mask_one, _NEXT_URL.split(url)))


def _mask_one(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "**@" + url.rpartition("@")[2] if "@" in url else mask_text(url)
    login, at, place = rest.rpartition("@")
    if not at and _PLACE.match(rest):
        return mask_text(url)
    if at and "=" in login and _PLACE.match(login):  # host/path?name=a@b
        return _SECRET_QUERY.sub(r"\g<key>=**", url)
    found = _USER.match(login if at else rest)
    user = found[0] if found else ""
    if at and (user == login or (login.startswith("/") and ":" not in login)):  # no password; a file
        return mask_text(url)
    return mask_text(f"{scheme}{separator}{user}:**{at}{place if at else ''}")
