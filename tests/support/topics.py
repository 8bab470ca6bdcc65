"""An SNS topic with a queue that gets what is published."""

import json
from typing import Any

from cloud.clients import Client, SQSClient

NAME = "done"


class Subscribed:
    def __init__(self, sns: Client, sqs: SQSClient) -> None:
        self.sqs = sqs
        self.arn: str = sns.create_topic(Name=NAME)["TopicArn"]
        self.url = sqs.create_queue(QueueName=NAME)["QueueUrl"]
        queue = sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"]
        sns.subscribe(TopicArn=self.arn, Protocol="sqs", Endpoint=queue["QueueArn"])

    def received(self, seconds: int = 0) -> list[dict[str, Any]]:
        """What was published since the last call, each with its attributes as `attributes`.

        Waits for so many seconds until something comes.
        """
        found: list[dict[str, Any]] = []
        asked: dict[str, Any] = {"QueueUrl": self.url, "MaxNumberOfMessages": 10}
        while messages := self.sqs.receive_message(**asked, WaitTimeSeconds=seconds).get("Messages"):
            seconds = 0
            for message in messages:
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
                envelope = json.loads(message["Body"])
                attributes = {name: said["Value"] for name, said in envelope["MessageAttributes"].items()}
                found.append(json.loads(envelope["Message"]) | {"attributes": attributes})
        return found
