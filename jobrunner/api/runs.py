"""Names of runs."""

import secrets


def new_run() -> str:
    """The run of a client that was given none: `api-` and 8 hexadecimal digits."""
    return f"api-{secrets.token_hex(4)}"
