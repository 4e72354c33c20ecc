"""The reference of the commands says what their help says."""

import importlib.util
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs"


def test_the_reference_is_what_help_prints() -> None:
    spec = importlib.util.spec_from_file_location("docs_reference", PAGES / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    assert (PAGES / "cli.md").read_text(encoding="utf-8") == reference.page(), "python docs/reference.py writes it"
