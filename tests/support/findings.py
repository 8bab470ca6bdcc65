"""What the doctor has found, and how it asks other regions."""

import boto3


def wrongs(findings) -> list[str]:
    """What is wrong and how to fix it, a line each."""
    found = [findings] if hasattr(findings, "state") else list(findings)
    return [f"{finding.what} → {finding.fix}" for finding in found if finding.state == "wrong"]


def states(findings) -> set[str]:
    found = [findings] if hasattr(findings, "state") else list(findings)
    return {finding.state for finding in found}


def other_region(region):
    """Returns a client of EC2 there."""
    return boto3.client("ec2", region_name=region)
