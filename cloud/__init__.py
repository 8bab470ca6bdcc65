"""What both tiers must agree on, and the only package that calls S3, SQS and SNS."""
