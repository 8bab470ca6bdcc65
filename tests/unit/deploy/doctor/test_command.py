"""What the command prints, and its exit status."""

from deploy.doctor.__main__ import main
from deploy.doctor.findings import ok, unknown


def test_the_command_goes_no_further_without_a_region(settings_environment, capsys):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        settings_environment.delenv(name, raising=False)
    settings_environment.setenv("AWS_CONFIG_FILE", "/other_region")
    settings_environment.setattr("sys.argv", ["doctor"])
    assert main() == 1
    printed = capsys.readouterr().out
    assert printed.startswith("WRONG    no region is set\n         → set AWS_REGION")
    assert printed.endswith("1 problem found for the controller.\n")


def test_the_command_says_how_much_it_does_not_know(monkeypatch, capsys):
    found = [ok("the region"), unknown("the quota", "not allowed")]
    monkeypatch.setattr("deploy.doctor.__main__.examine", lambda tier, session: iter(found))
    monkeypatch.setattr("sys.argv", ["doctor"])
    assert main() == 0
    assert capsys.readouterr().out.endswith(
        "No problems found for the controller, but 1 could not be looked for.\n"
    )


def test_the_command_names_settings_that_are_missing(clients, settings_environment, capsys):
    settings_environment.setenv("AWS_REGION", "us-east-1")
    settings_environment.delenv("AWS_ENDPOINT_URL", raising=False)
    settings_environment.setattr("sys.argv", ["doctor", "worker"])
    assert main() == 1
    printed = capsys.readouterr().out
    assert "INPUT_BUCKET (" in printed
    assert "OUTPUT_BUCKET (" in printed
    assert printed.endswith("2 problems found for the worker.\n")
