"""The simulation finds faults that are there: each mutant breaks a promise within so many seeds."""

import pytest

from tests.faults.mutants import MUTANTS
from tests.faults.mutation import NotFound, load_mutant
from tests.faults.test_simulation import simulate


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_found(name):
    done = simulate("--mutant", name, "--first", "--seeds", f"0:{MUTANTS[name].within}")
    assert "BROKEN" in done.stdout, f"{name}: {MUTANTS[name].why}\n{done.stdout}\n{done.stderr}"
    print(done.stdout)


def test_a_mutant_that_is_out_of_date_is_told():
    with pytest.raises(NotFound):
        load_mutant("outdated", "broker.sites", "registry", {"owed": [("this text is not there", "")]})
