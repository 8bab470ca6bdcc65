variable "ami_id" {
  description = "AMI of both tiers, as `python -m deploy.make_ami` prints it"
  type        = string
}

variable "alarm_email" {
  description = "who is told when the account costs more than monthly_budget"
  type        = string
}

variable "monthly_budget" {
  description = "dollars a month; the alarm comes at 80 % spent and at 100 % forecast"
  type        = number
  default     = 50
}

variable "region" {
  type    = string
  default = "us-east-1"
}

variable "name" {
  description = "prefix of all that is made here"
  type        = string
  default     = "image-classifier"
}

variable "allowed_cidrs" {
  description = "who may reach ports 80 and 443 of the controller"
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "needs_api_tokens" {
  description = "true: the controller starts only once API_TOKENS is set on it, in /etc/image-classifier/api-tokens.env"
  type        = bool
  default     = false
}

variable "controller_type" {
  type    = string
  default = "t3.small"
}

variable "instance_types" {
  description = "of the workers, the best first: the next one is tried when there is no capacity"
  type        = list(string)
  default     = ["c7i.large", "c6i.large", "m7i.large"]
}

variable "market" {
  description = "on-demand, or spot (on-demand when there is no spot capacity)"
  type        = string
  default     = "on-demand"
}

variable "price_per_hour" {
  description = "dollars of one worker, for GET /fleet"
  type        = number
  default     = 0.08925
}

variable "worker_name" {
  type    = string
  default = "app-tier-instance"
}

variable "key_name" {
  description = "EC2 key pair for ssh; empty: none. No security group here opens port 22."
  type        = string
  default     = ""
}

variable "max_instances" {
  type    = number
  default = 10
}

variable "max_images_per_instance" {
  type    = number
  default = 20
}

variable "visibility_timeout" {
  description = "seconds until an unanswered message goes to another worker"
  type        = number
  default     = 60
}

variable "max_receives" {
  type    = number
  default = 4
}

variable "keep_days" {
  description = "days after which images and predictions are deleted"
  type        = number
  default     = 30
}

variable "model" {
  type    = string
  default = "resnet18"
}

variable "weights" {
  description = "imagenet, or a path on the AMI or s3://bucket/key of a state dict"
  type        = string
  default     = "imagenet"
}

variable "labels" {
  description = "path on the AMI or s3://bucket/key of the class names, if they are not ImageNet's"
  type        = string
  default     = ""
}

variable "s3_path_style" {
  description = "true for an endpoint that is not AWS's"
  type        = bool
  default     = false
}
