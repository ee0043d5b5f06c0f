"""`fed token`: making, showing and taking back."""

from broker.access import Caller, Role, Tokens
from broker.clock import SystemClock
from tests.running import run_fed


def test_a_token_is_made_shown_and_taken_back(tmp_path):
    path = tmp_path / "tokens"
    made = run_fed("token", "new", "-f", path, "--name", "ada", "--tenant", "red", "--expires", "2020-01-01")
    assert (made.code, made.out[:4]) == (0, "fed_")
    assert made.out.strip() not in path.read_text()
    said = run_fed("token", "ls", "-f", path).out
    assert "ada" in said
    assert "expired" in said
    assert run_fed("token", "rm", "-f", path, "ada").code == 0
    assert run_fed("token", "rm", "-f", path, "ada").code == 2


def test_what_makes_no_token_says_why(tmp_path):
    said = run_fed("token", "new", "-f", tmp_path / "tokens", "--name", "ada")
    assert said.code == 2
    assert "a user is of one" in said.err
    assert not (tmp_path / "tokens").exists()
    assert run_fed("token", "ls", "-f", tmp_path / "nowhere").code == 2


def test_a_token_is_rotated_at_once_or_with_time_to_change_over(tmp_path):
    path = tmp_path / "tokens"
    first = run_fed("token", "new", "-f", path, "--name", "ada", "--role", "operator").out.strip()
    second = run_fed("token", "rotate", "-f", path, "ada").out.strip()
    assert callers(path, first, second) == [None, Caller("ada", Role.OPERATOR)]
    third = run_fed("token", "rotate", "-f", path, "ada", "--grace", "1h").out.strip()
    assert callers(path, second, third) == [Caller("ada-old", Role.OPERATOR), Caller("ada", Role.OPERATOR)]
    fourth = run_fed("token", "rotate", "-f", path, "ada", "--grace", "1h").out.strip()
    assert callers(path, second, third, fourth) == [None, Caller("ada-old", Role.OPERATOR), Caller("ada", Role.OPERATOR)]
    known = path.read_text()
    assert run_fed("token", "rotate", "-f", path, "bob").code == 2
    assert run_fed("token", "rotate", "-f", path, "ada", "--grace", "soon").err.startswith("fed: --grace: ")
    twice = run_fed("token", "new", "-f", path, "--name", "ada", "--role", "operator")
    assert "rotate" in twice.err
    assert path.read_text() == known


def callers(path, *given):
    tokens = Tokens(path, SystemClock())
    return [tokens.caller_of(each) for each in given]
