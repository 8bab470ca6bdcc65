from botocore.exceptions import ClientError


def refusal(code: str, operation: str = "RunInstances") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": f"{code} says AWS"}}, operation)
