import pytest

from cloud.settings import ControllerSettings, SettingsError
from cloud.tokens import read_tokens

GOOD = "0123456789abcdef"


def test_a_token_without_a_name_keeps_its_name_when_another_one_goes():
    """Its client's idempotency keys and quota go by the name."""
    first, second = read_tokens(f"{GOOD},{GOOD}2")
    [alone] = read_tokens(f"{GOOD}2")
    assert alone == second
    assert first.name != second.name
    assert GOOD not in first.name


def test_tokens_have_the_names_they_are_given_or_one_of_their_hash():
    assert read_tokens(f"ci:{GOOD}, {GOOD}ab== ,anna:{GOOD}-._~+/") == [
        ("ci", GOOD),
        ("token-f83005c0ae8b", f"{GOOD}ab=="),
        ("anna", f"{GOOD}-._~+/"),
    ]


def test_one_name_may_have_two_tokens_as_while_one_replaces_the_other():
    assert [token.name for token in read_tokens(f"ci:{GOOD},ci:{GOOD}2")] == ["ci", "ci"]


def test_nothing_is_no_token():
    assert read_tokens("") == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0123456789abcde", "token 1 should have at least 16 characters"),
        (f"ci:{GOOD},short", "token 2 should have at least 16 characters"),
        (f"{GOOD}:", "token 1 should have at least 16 characters"),
        (f"a:b:{GOOD}", "the name of token 1 should have only letters, digits"),
        (f":{GOOD}", "the name of token 1 should have only letters, digits"),
        (f"{GOOD}é", "token 1 should have only letters, digits"),
        (f"{GOOD} x", "token 1 should have only letters, digits"),
        (f"{GOOD}=x", "token 1 should have only letters, digits"),
        (",", "it is set, but holds no token"),
        (" ", "it is set, but holds no token"),
    ],
)
def test_what_is_unfit_is_refused_without_being_quoted(settings_environment, text, reason):
    settings_environment.setenv("INPUT_BUCKET", "photos-in")
    settings_environment.setenv("OUTPUT_BUCKET", "photos-out")
    settings_environment.setenv("API_TOKENS", text)
    with pytest.raises(SettingsError) as refused:
        ControllerSettings.from_environment()
    message = str(refused.value)
    assert message.startswith("API_TOKENS (")
    assert f"is refused: {reason}" in message
    assert "0123456789" not in message
    assert refused.value.__cause__ is None


def test_tokens_are_neither_shown_nor_given_to_workers(settings):
    given = settings.model_validate(settings.model_dump() | {"api_tokens": f"ci:{GOOD}"})
    assert given.api_tokens.get_secret_value() == f"ci:{GOOD}"
    assert (
        GOOD not in f"{given!r} {given} {given.model_dump()} {given.model_dump_json()} {given.for_workers()}"
    )
    assert "API_TOKENS" not in given.for_workers()
