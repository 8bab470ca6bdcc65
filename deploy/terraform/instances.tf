# The controller launches workers from this template. It adds the AMI, user data, tags, type, subnet and market.
resource "aws_launch_template" "worker" {
  name                                 = "${var.name}-worker"
  update_default_version               = true
  instance_initiated_shutdown_behavior = "terminate"
  key_name                             = var.key_name == "" ? null : var.key_name
  vpc_security_group_ids               = [aws_security_group.worker.id]
  iam_instance_profile {
    name = aws_iam_instance_profile.worker.name
  }
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
}

# What the controller's unit reads before each start. The tokens are in /<name>/api-tokens, which is not in the plan,
# because its state would then contain them.
resource "aws_ssm_parameter" "settings" {
  name  = "/${var.name}/settings"
  type  = "String"
  value = local.environment_file
}

resource "aws_instance" "controller" {
  ami                         = var.ami_id
  instance_type               = var.controller_type
  key_name                    = var.key_name == "" ? null : var.key_name
  subnet_id                   = sort(data.aws_subnets.controller.ids)[0]
  vpc_security_group_ids      = [aws_security_group.controller.id]
  iam_instance_profile        = aws_iam_instance_profile.controller.name
  user_data_replace_on_change = true
  user_data = replace(
    file("${path.module}/../controller-userdata.sh"), "# SETTINGS\n",
    "AWS_REGION='${var.region}'\nPARAMETERS='/${var.name}'\n"
  )
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  root_block_device {
    volume_type = "gp3"
    volume_size = var.controller_disk # of which 10 are the volume for uploads
    encrypted   = true
  }
  tags = { Name = "${var.name}-controller" }
  depends_on = [
    aws_iam_role_policy.controller, aws_iam_role_policy.worker, aws_iam_role_policy.batches, aws_iam_role_policy.notices,
    aws_ssm_parameter.settings,
  ]
}

# The address stays the same when the controller's instance is replaced, so that a DNS name can point to it.
resource "aws_eip" "controller" {
  domain = "vpc"
}

resource "aws_eip_association" "controller" {
  instance_id   = aws_instance.controller.id
  allocation_id = aws_eip.controller.id
}
