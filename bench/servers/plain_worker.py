"""A worker of the system that this one succeeds: it classifies the photo of one message after the other."""

import boto3

from bench.servers import model

INPUT, OUTPUT, QUEUE = "plain-input", "plain-output", "plain"


def main() -> None:
    s3, sqs = boto3.client("s3"), boto3.client("sqs")
    queue_url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    loaded = model.load()
    while True:
        reply = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=1, WaitTimeSeconds=20)
        for message in reply.get("Messages", []):
            key = message["Body"]
            photo = s3.get_object(Bucket=INPUT, Key=key)["Body"].read()
            [label] = loaded.classify([loaded.prepare(photo)])
            s3.put_object(Bucket=OUTPUT, Key=key, Body=label.encode())
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])


if __name__ == "__main__":
    main()
