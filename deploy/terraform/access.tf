resource "aws_iam_role" "controller" {
  name               = "${var.name}-controller"
  assume_role_policy = file("${path.module}/../iam/trust.json")
}

resource "aws_iam_role" "worker" {
  name               = "${var.name}-worker"
  assume_role_policy = file("${path.module}/../iam/trust.json")
}

resource "aws_iam_role_policy" "controller" {
  name   = "controller"
  role   = aws_iam_role.controller.id
  policy = templatefile("${path.module}/../iam/controller.json", local.policy)
}

# To launch instances with a key pair, the controller needs permission for that key pair.
resource "aws_iam_role_policy" "key" {
  count  = var.key_name == "" ? 0 : 1
  name   = "key"
  role   = aws_iam_role.controller.id
  policy = templatefile("${path.module}/../iam/controller-key.json", merge(local.policy, { key_name = var.key_name }))
}

resource "aws_iam_role_policy" "worker" {
  name   = "worker"
  role   = aws_iam_role.worker.id
  policy = templatefile("${path.module}/../iam/worker.json", local.policy)
}

# Batches read buckets of the user where they are.
resource "aws_iam_role_policy" "batches" {
  for_each = length(var.batch_sources) == 0 ? {} : local.roles
  name     = "batches"
  role     = each.value
  policy   = templatefile("${path.module}/../iam/${each.key}-batches.json", local.policy)
}

# The topic is not in the plan, because it may belong to others.
resource "aws_iam_role_policy" "notices" {
  count  = var.notify_topic == "" ? 0 : 1
  name   = "notices"
  role   = aws_iam_role.controller.id
  policy = templatefile("${path.module}/../iam/controller-notices.json", local.policy)
}

# Workers load the weights and the labels. The controller reads their ETags, to know which cached answers are theirs.
resource "aws_iam_role_policy" "weights" {
  for_each = startswith(var.weights, "s3://") ? local.roles : {}
  name     = "weights"
  role     = each.value
  policy   = templatefile("${path.module}/../iam/model.json", { object = trimprefix(var.weights, "s3://") })
}

resource "aws_iam_role_policy" "labels" {
  for_each = startswith(var.labels, "s3://") ? local.roles : {}
  name     = "labels"
  role     = each.value
  policy   = templatefile("${path.module}/../iam/model.json", { object = trimprefix(var.labels, "s3://") })
}

resource "aws_iam_instance_profile" "controller" {
  name = aws_iam_role.controller.name
  role = aws_iam_role.controller.name
}

resource "aws_iam_instance_profile" "worker" {
  name = aws_iam_role.worker.name
  role = aws_iam_role.worker.name
}

resource "aws_security_group" "controller" {
  name        = "${var.name}-controller"
  description = "HTTP and HTTPS from outside"
  vpc_id      = data.aws_vpc.chosen.id
  dynamic "ingress" {
    for_each = [80, 443]
    content {
      description = "clients"
      from_port   = ingress.value
      to_port     = ingress.value
      protocol    = "tcp"
      cidr_blocks = var.allowed_cidrs
    }
  }
  dynamic "egress" {
    for_each = [80, 443]
    content {
      description = "AWS, and updates of the system, which are fetched over HTTP"
      from_port   = egress.value
      to_port     = egress.value
      protocol    = "tcp"
      cidr_blocks = ["0.0.0.0/0"]
    }
  }
  # A Prometheus on this machine may read the metrics of workers, which are in the same VPC.
  dynamic "egress" {
    for_each = coalesce(var.metrics_port, 0) == 0 ? [] : [var.metrics_port]
    content {
      description = "metrics of workers"
      from_port   = egress.value
      to_port     = egress.value
      protocol    = "tcp"
      cidr_blocks = data.aws_vpc.chosen.cidr_block_associations[*].cidr_block
    }
  }
}

resource "aws_security_group" "worker" {
  name        = "${var.name}-worker"
  description = "nothing from outside; HTTPS to AWS"
  vpc_id      = data.aws_vpc.chosen.id
  # With metrics_port, a Prometheus on the controller's machine may read the metrics of workers.
  dynamic "ingress" {
    for_each = coalesce(var.metrics_port, 0) == 0 ? [] : [var.metrics_port]
    content {
      from_port       = ingress.value
      to_port         = ingress.value
      protocol        = "tcp"
      security_groups = [aws_security_group.controller.id]
    }
  }
  egress {
    description = "AWS"
    from_port   = 443
    to_port     = 443
    protocol    = "tcp"
    cidr_blocks = ["0.0.0.0/0"]
  }
}
