"""What the pages tell their reader to do is done, on a real broker, and shows what they say."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import pages
from tests.docs.session import Session

DOCS = pages.ROOT / "docs"
PLAYED = [
    pages.ROOT / "README.md",
    DOCS / "quickstart.md",
    DOCS / "how-to" / "python-api.md",
    DOCS / "how-to" / "retries.md",
    DOCS / "how-to" / "commands.md",
    DOCS / "how-to" / "delays.md",
    DOCS / "how-to" / "map.md",
    DOCS / "how-to" / "wait-for-others.md",
    DOCS / "how-to" / "see-what-happens.md",
    DOCS / "how-to" / "retry-and-cancel.md",
    DOCS / "how-to" / "audit.md",
    DOCS / "how-to" / "raw-producers.md",
    DOCS / "how-to" / "running-in-production.md",
    DOCS / "how-to" / "doctor.md",
    DOCS / "wire.md",
]


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """A state folder whose private broker serves all pages."""
    folder = Path(tempfile.mkdtemp(prefix="jobrunner-docs-"))
    yield folder
    cleaner = Session(Path(tempfile.mkdtemp(prefix="jobrunner-docs-")), folder)
    cleaner.on_terminal("jobrunner broker stop --wipe --yes")
    cleaner.leave()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def session(state: Path) -> Iterator[Session]:
    """A folder with the examples, its commands pointed to the broker of this run."""
    folder = Path(tempfile.mkdtemp(prefix="jobrunner-docs-"))
    shutil.copy(pages.ROOT / "examples" / "tasks.py", folder)
    (folder / "report.txt").write_text("three short words\n")
    opened = Session(folder, state)
    try:
        code, told = opened.on_terminal("jobrunner broker start")
        assert code == 0, told
        yield opened
    finally:
        opened.leave()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PLAYED, ids=[str(page.relative_to(pages.ROOT)) for page in PLAYED])
def test_what_a_page_tells_its_reader_to_do_works(page: Path, session: Session) -> None:
    session.play(page)


def test_every_page_with_commands_is_played() -> None:
    assert {page for page in pages.PAGES if pages.blocks(page, "console")} <= set(PLAYED)
