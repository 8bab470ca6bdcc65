# The same buckets and queues as those that cloud/provision.py creates. A test compares them.

resource "aws_s3_bucket" "images" {
  for_each      = toset(["input", "output", "state"])
  bucket        = "${var.name}-${each.key}-${local.account}"
  force_destroy = true
}

resource "aws_s3_bucket_public_access_block" "images" {
  for_each                = aws_s3_bucket.images
  bucket                  = each.value.id
  block_public_acls       = true
  ignore_public_acls      = true
  block_public_policy     = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_policy" "images" {
  for_each   = aws_s3_bucket.images
  bucket     = each.value.id
  depends_on = [aws_s3_bucket_public_access_block.images]
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyWithTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [each.value.arn, "${each.value.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

resource "aws_s3_bucket_server_side_encryption_configuration" "images" {
  for_each = aws_s3_bucket.images
  bucket   = each.value.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "images" {
  for_each = aws_s3_bucket.images
  bucket   = each.value.id
  rule {
    id     = "forget"
    status = "Enabled"
    filter {
      prefix = ""
    }
    expiration {
      days = var.keep_days
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

resource "aws_sqs_queue" "requests" {
  name                       = "${var.name}-requests"
  visibility_timeout_seconds = var.visibility_timeout
  message_retention_seconds  = 345600
  policy                     = local.only_with_tls["requests"]
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead.arn
    maxReceiveCount     = var.max_receives
  })
}

resource "aws_sqs_queue" "dead" {
  name                      = "${var.name}-requests-dead"
  message_retention_seconds = 1209600
  policy                    = local.only_with_tls["requests-dead"]
}

# The slices of batches. It has no dead-letter queue, because a slice that fails is divided until its images are answered.
resource "aws_sqs_queue" "batches" {
  count                      = length(var.batch_sources) == 0 ? 0 : 1
  name                       = "${var.name}-requests-batches"
  visibility_timeout_seconds = var.visibility_timeout
  message_retention_seconds  = 1209600
  sqs_managed_sse_enabled    = true
  policy                     = local.only_with_tls["requests-batches"]
}

locals {
  # The policies of the queues. As resources of their own, they would wait for the queues.
  only_with_tls = {
    for queue in ["requests", "requests-dead", "requests-batches"] : queue => jsonencode({
      Version = "2012-10-17"
      Statement = [{
        Sid       = "OnlyWithTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = "arn:aws:sqs:${var.region}:${local.account}:${var.name}-${queue}"
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }]
    })
  }
}
