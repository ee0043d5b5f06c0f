"""`fed token`: making, showing and taking back."""

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
