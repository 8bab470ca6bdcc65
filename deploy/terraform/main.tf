terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}

provider "aws" {
  region            = var.region
  s3_use_path_style = var.s3_path_style
}

data "aws_caller_identity" "me" {}

data "aws_vpc" "chosen" {
  default = var.vpc_id == "" ? true : null
  id      = var.vpc_id == "" ? null : var.vpc_id
}

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.chosen.id]
  }
  filter {
    name   = "default-for-az"
    values = ["true"]
  }
}

# Not every zone of a region has every instance type.
data "aws_ec2_instance_type_offerings" "controller" {
  location_type = "availability-zone"
  filter {
    name   = "instance-type"
    values = [var.controller_type]
  }
}

data "aws_subnets" "controller" {
  filter {
    name   = "subnet-id"
    values = local.subnet_ids
  }
  filter {
    name   = "availability-zone"
    values = data.aws_ec2_instance_type_offerings.controller.locations
  }
}

locals {
  account    = data.aws_caller_identity.me.account_id
  subnet_ids = sort(length(var.subnet_ids) > 0 ? var.subnet_ids : data.aws_subnets.default.ids)
  roles      = { controller = aws_iam_role.controller.id, worker = aws_iam_role.worker.id }

  # The environment variables of controller and workers, which docs/settings.md describes.
  settings = {
    AWS_REGION              = var.region
    INPUT_BUCKET            = aws_s3_bucket.images["input"].bucket
    OUTPUT_BUCKET           = aws_s3_bucket.images["output"].bucket
    STATE_BUCKET            = aws_s3_bucket.images["state"].bucket
    REQUEST_QUEUE           = aws_sqs_queue.requests.name
    VISIBILITY_TIMEOUT      = aws_sqs_queue.requests.visibility_timeout_seconds
    MAX_RECEIVES            = var.max_receives
    AMI_ID                  = var.ami_id
    LAUNCH_TEMPLATE         = aws_launch_template.worker.name
    SUBNET_IDS              = join(",", local.subnet_ids)
    INSTANCE_TYPE           = join(",", var.instance_types)
    MARKET                  = var.market
    MAX_INSTANCES           = var.max_instances
    MAX_IMAGES_PER_INSTANCE = var.max_images_per_instance
    SCALING                 = var.scaling
    WARM_POOL               = var.warm_pool
    BATCH_SOURCES           = join(",", var.batch_sources)
    BATCH_SHARE             = var.batch_share
    WORKER_NAME             = var.worker_name
    MODEL                   = var.model
    WEIGHTS                 = var.weights
    LABELS                  = var.labels
    ENGINE                  = var.engine
    PRECISION               = var.precision
    PRICE_PER_HOUR          = var.price_per_hour
    IMAGES_PER_MINUTE       = var.images_per_minute
    NOTIFY_TOPIC            = var.notify_topic
    TRUSTED_HOSTS           = join(",", concat([aws_eip.controller.public_ip], var.host_names))
    ALLOW_ANONYMOUS         = var.allow_anonymous ? "on" : ""
  }
  environment = {
    for name, value in merge(local.further_settings, local.settings) :
    name => tostring(value) if value != null ? tostring(value) != "" : false
  }

  # As a shell and systemd read it: an apostrophe ends the quotes, and is within others.
  environment_file = join("", [for name, value in local.environment : "${name}='${replace(value, "'", "'\"'\"'")}'\n"])

  # bucket/prefix, with a slash after the bucket in any case.
  sources = [for source in var.batch_sources : trimprefix(length(split("/", source)) == 3 ? "${source}/" : source, "s3://")]

  # The variables of the policies in deploy/iam.
  policy = {
    account               = local.account
    region                = var.region
    name                  = var.name
    input_bucket          = aws_s3_bucket.images["input"].bucket
    output_bucket         = aws_s3_bucket.images["output"].bucket
    state_bucket          = aws_s3_bucket.images["state"].bucket
    request_queue         = aws_sqs_queue.requests.name
    notify_topic          = var.notify_topic
    ami_id                = var.ami_id
    launch_template_id    = aws_launch_template.worker.id
    worker_security_group = aws_security_group.worker.id
    worker_role           = aws_iam_role.worker.name
    # These are lists in the policies.
    instance_types = join("\", \"", var.instance_types)
    subnet_ids     = join("\", \"", local.subnet_ids)
    source_buckets = join("\", \"arn:aws:s3:::", distinct([for source in local.sources : split("/", source)[0]]))
    source_objects = join("\", \"arn:aws:s3:::", [for source in local.sources : "${source}*"])
  }
}
