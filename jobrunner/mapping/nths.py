"""Which of several equal inputs one is, for millions of inputs."""

from jobrunner.textset import TextSet


class Nths:
    """Counts how often each text has come. Where two are taken for one, a number is skipped, which harms nothing."""

    def __init__(self) -> None:
        self._seen = TextSet()
        self._again: dict[str, int] = {}

    def next(self, text: str) -> int:
        """1 for the first time that this text comes, 2 for the second, and so on."""
        if not self._seen.add(text):
            return 1
        count = self._again.get(text, 1) + 1
        self._again[text] = count
        return count
