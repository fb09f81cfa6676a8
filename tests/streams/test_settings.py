"""Settings: one file, every key checked; secrets by name, never in the file, never in an error."""

import re
import tomllib

import msgspec
import pytest

from streams.settings import Settings, SettingsError, load_settings, parse_settings, read_secret


def test_defaults_without_a_file():
    assert load_settings(None) == Settings() == parse_settings("")


def test_a_file_is_read(tmp_path):
    (tmp_path / "c.toml").write_text('data_dir = "ü"\n[detect]\nunit_s = 5\n', encoding="utf-8")
    settings = load_settings(tmp_path / "c.toml")
    assert (settings.data_dir, settings.detect.unit_s) == ("ü", 5)


def test_what_cannot_be_read_names_the_file(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b'data_dir = "\xfc"')
    for name in ("absent.toml", "latin.toml", ""):
        with pytest.raises(SettingsError, match=re.escape(str(tmp_path / name))):
            load_settings(tmp_path / name)


def sections():
    for name, field in Settings.__annotations__.items():
        if isinstance(field, type) and issubclass(field, msgspec.Struct):
            yield name


@pytest.mark.parametrize("section", list(sections()))
def test_an_unknown_key_is_refused_with_its_path_everywhere(section):
    with pytest.raises(SettingsError, match=rf"unknown field `nonsense` - at `\$\.{section}`"):
        parse_settings(f"[{section}]\nnonsense = 1")


def numbers():
    """Every number of every section."""
    for section in sections():
        defaults = msgspec.to_builtins(getattr(Settings(), section))
        for name, value in defaults.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield section, name


@pytest.mark.parametrize(("section", "name"), list(numbers()))
@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "-1", "1e300", '"1"', "true"])
def test_no_number_is_infinite_negative_or_absurd(section, name, value):
    with pytest.raises(SettingsError, match=rf"at `\$\.{section}\.{name}`"):
        parse_settings(f"[{section}]\n{name} = {value}")


def test_every_default_written_out_is_the_default():
    def table(values, path=""):
        lines = [
            f"{k} = {msgspec.json.encode(v).decode()}" for k, v in values.items() if not isinstance(v, dict)
        ]
        nested = [table(v, f"{path}{k}.") for k, v in values.items() if isinstance(v, dict)]
        return "\n".join([*([f"[{path[:-1]}]"] if path else []), *lines, *nested])

    text = table(msgspec.to_builtins(Settings()))
    assert tomllib.loads(text)
    assert parse_settings(text) == Settings()


def test_a_secret_comes_from_where_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "s3cret")
    (tmp_path / "token").write_text(" s3cret\n")
    assert read_secret() == ""
    assert read_secret(env="TOKEN") == read_secret(file=str(tmp_path / "token")) == "s3cret"


def test_a_secret_that_is_not_there_is_an_error_without_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "s3cret")
    monkeypatch.setenv("EMPTY", "")
    (tmp_path / "empty").write_text(" \n")
    cases = [
        {"env": "TOKEN", "file": "x"}, {"env": "ABSENT"}, {"env": "EMPTY"},
        {"file": str(tmp_path / "absent")}, {"file": str(tmp_path / "empty")}, {"file": str(tmp_path)},
    ]  # fmt: skip
    for case in cases:
        with pytest.raises(SettingsError, match=r"^the token: ") as caught:
            read_secret(**case, what="the token")
        assert "s3cret" not in str(caught.value)
