"""What both tiers must agree on, and the only place from which S3 and SQS are called."""
