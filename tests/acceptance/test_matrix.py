"""Nothing is lost, whatever is broken at whatever step: the cells of the failpoint matrix that tell most.

The whole of it: `make test-matrix`. Its rules are in tests/support/cells.py.
"""

from collections.abc import Iterator

import pytest

from tests.support.broker import TestBroker
from tests.support.cells import FEW, Cell, all_cells, skipped
from tests.support.matrix import Matrix

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def matrix(_own_broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """All of them have been run, several at a time, once the first test asks."""
    made = Matrix(_own_broker, tmp_path_factory.mktemp("matrix"), FEW, at_a_time=5)
    made.run()
    yield made
    made.sweeper.close()


@pytest.mark.parametrize("cell", FEW, ids=str)
def test_a_broken_step_loses_nothing_and_repeats_no_more_than_it_may(matrix: Matrix, cell: Cell) -> None:
    assert matrix.problems(cell) == []


def test_every_cell_that_cannot_be_says_why() -> None:
    every = all_cells()
    left_out = [cell for cell in every if skipped(cell) is not None]
    assert (len(every), len(every) - len(left_out)) == (375, 207)
    assert not set(FEW) & set(left_out)
