"""Gets the controller's settings and tokens from AWS's parameter store: `python -m deploy.parameters FILE`.

The unit image-classifier-controller runs this before each start. PARAMETERS says under which name the
parameters are. Terraform writes `<name>/settings`, lines of the form NAME=value, and a person writes
`<name>/api-tokens`. Both outlive the machine. Without PARAMETERS, nothing is written.
"""

import os
import shlex
import sys
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

SETTINGS, TOKENS = "settings", "api-tokens"


def stored(name: str) -> dict[str, str]:
    """Returns the parameters under this name that there are, by SETTINGS and TOKENS.

    Raises ClientError or BotoCoreError when the parameter store cannot be read.
    """
    import boto3  # not at the top, because it takes a second that a machine without PARAMETERS need not wait

    names = [f"{name}/{part}" for part in (SETTINGS, TOKENS)]
    found = boto3.client("ssm").get_parameters(Names=names, WithDecryption=True)["Parameters"]
    return {one["Name"].rpartition("/")[2]: one["Value"] for one in found}


def as_environment_file(parameters: dict[str, str]) -> str:
    """Returns the parameters in the form of systemd's EnvironmentFile=, which a shell reads as well."""
    tokens = parameters.get(TOKENS, "").strip()
    line = f"API_TOKENS={shlex.quote(tokens)}\n" if tokens else ""
    return parameters.get(SETTINGS, "") + line


def main(file: Path) -> None:
    name = os.environ.get("PARAMETERS")
    if not name:
        return
    os.environ.setdefault("AWS_DEFAULT_REGION", os.environ.get("AWS_REGION", ""))
    try:
        text = as_environment_file(stored(name))
    except (ClientError, BotoCoreError) as error:
        sys.exit(f"The parameters {name}/* cannot be read: {error}")
    file.touch(mode=0o600)
    file.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
