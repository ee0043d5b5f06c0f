"""A secret is read where it is, each time, and is never in settings or messages."""

import pytest
from pydantic import ValidationError

from adapters.secrets import Secret, SecretMissing


def test_a_secret_is_read_anew_each_time(tmp_path, monkeypatch):
    place = tmp_path / "token"
    place.write_text("one\n")
    of_file, of_env = Secret(file=str(place)), Secret(env="FED_TOKEN")
    monkeypatch.setenv("FED_TOKEN", "three")
    assert (of_file.read(), of_env.read()) == ("one", "three")
    place.write_text("two\n")
    monkeypatch.setenv("FED_TOKEN", "four")
    assert (of_file.read(), of_env.read()) == ("two", "four")


@pytest.mark.parametrize("given", [{}, {"env": "A", "file": "/a"}, {"value": "word"}, {"file": "token"}, {"env": "A B"}])
def test_a_secret_is_one_place(given):
    with pytest.raises(ValidationError):
        Secret.model_validate(given)


def test_a_secret_that_is_not_there_says_where_it_should_be(tmp_path, monkeypatch):
    monkeypatch.delenv("FED_TOKEN", raising=False)
    (tmp_path / "empty").write_text(" \n")
    for secret, words in (
        (Secret(env="FED_TOKEN"), "FED_TOKEN"),
        (Secret(file=str(tmp_path / "none")), "none"),
        (Secret(file=str(tmp_path / "empty")), "empty"),
    ):
        with pytest.raises(SecretMissing, match=words):
            secret.read()
