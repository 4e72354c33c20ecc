"""The whole failpoint matrix: `make test-matrix`, about ten minutes."""

from collections.abc import Iterator

import pytest

from tests.support.broker import LocalNode
from tests.support.cells import Cell, all_cells, cells, skipped
from tests.support.matrix import Matrix

pytestmark = pytest.mark.timeout(3000)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    broker = LocalNode()
    made = Matrix(broker, tmp_path_factory.mktemp("matrix"), cells(), at_a_time=6)
    try:
        made.run()
        yield made
    finally:
        made.sweeper.close()
        broker.thaw()
        broker.remove()


@pytest.mark.parametrize("cell", all_cells(), ids=str)
def test_a_broken_step_loses_nothing_and_repeats_no_more_than_it_may(matrix: Matrix, cell: Cell) -> None:
    why = skipped(cell)
    if why is not None:
        pytest.skip(why)
    assert matrix.problems(cell) == []
