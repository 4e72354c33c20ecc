"""A URL as it was typed, cut into its parts, so that no error of it shows a password."""

from urllib.parse import SplitResult, urlsplit

from jobrunner.errors import UrlUnescaped


def split_url(text: str) -> SplitResult:
    """Its parts. Raises: UrlUnescaped where a character of the password has cut it at a wrong place."""
    try:
        parts = urlsplit(text)
    except ValueError:  # its text may hold the password
        raise UrlUnescaped from None
    is_cut = "@" in text and "@" not in parts.netloc
    if is_cut and (not _has_good_port(parts) or "/" in parts.path[1:]):
        raise UrlUnescaped  # what looks like port and path is the password
    return parts


def _has_good_port(parts: SplitResult) -> bool:
    """Whether its port is one, or there is none."""
    try:
        return parts.port is None or parts.port >= 0
    except ValueError:
        return False
