"""The documentation as data: its pages, their blocks of code, and the `jobrunner` lines in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_ALTERNATIVES = re.compile(r"(\S+?)((?:\|[\w-]+)+)$")


@dataclass(frozen=True)
class Block:
    """A fenced block of code. line: where it begins."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file_name(self) -> str | None:
        """The file that its first line names: `# tasks.py`."""
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found[1] if found else None


@dataclass(frozen=True)
class Step:
    """A line that is typed, and what the page shows of its output."""

    typed: str
    shown: list[str]


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in these languages, freed of their indentation."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        if match[2] in languages:
            body = "".join(line.removeprefix(match[1]) for line in match[3].splitlines(keepends=True))
            found.append(Block(page, text.count("\n", 0, match.start()) + 1, match[2], body))
    return found


def all_blocks(*languages: str) -> list[Block]:
    """Those of all pages."""
    return [block for page in PAGES for block in blocks(page, *languages)]


def steps(block: Block) -> list[Step]:
    """What is typed in a `console` block: lines that begin with `$ `."""
    found: list[Step] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:], []))
        elif line:
            found[-1].shown.append(line)
    return found


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """The targets of a page's links."""
    return _LINK.findall(prose(page))


def inline(page: Path) -> list[str]:
    """What stands in a page's text as code."""
    return _INLINE.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def command_lines(page: Path) -> list[list[str]]:
    """Each `jobrunner ...` of a page as words, from its text and its blocks; `start|stop` gives two."""
    lines = [code for code in inline(page) if code.startswith("jobrunner ")]
    typed = [block.text for block in blocks(page, "sh", "ini")]
    typed += [step.typed for block in blocks(page, "console") for step in steps(block)]
    for text in typed:
        lines += re.findall(r"(?<![\w./-])jobrunner [^|;&)\n]*", text)
    return [words for line in lines for words in _expanded(_words(line)[1:])]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # a quoted part with a bar in it was cut off
        return line.split()


def _expanded(words: list[str]) -> list[list[str]]:
    for index, word in enumerate(words):
        if found := _ALTERNATIVES.match(word):
            each = [found[1], *found[2][1:].split("|")]
            return [more for one in each for more in _expanded([*words[:index], one, *words[index + 1 :]])]
    return [words]
