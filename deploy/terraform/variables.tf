variable "ami_id" {
  description = "The id of the AMI for controller and workers, which `python -m deploy.make_ami` prints."
  type        = string
  validation {
    condition     = can(regex("^ami-[0-9a-f]+$", var.ami_id))
    error_message = "The id of an AMI, such as ami-0123456789abcdef0."
  }
}

variable "alarm_email" {
  description = "The email address that is notified when the account costs more than monthly_budget."
  type        = string
}

variable "monthly_budget" {
  description = "The budget in dollars per month. A notification is sent when 80% are spent, or 100% are forecast."
  type        = number
  default     = 50
}

variable "region" {
  type    = string
  default = "us-east-1"
}

variable "name" {
  description = "The prefix of the names of all resources."
  type        = string
  default     = "image-classifier"
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,42}$", var.name))
    error_message = "Up to 43 small letters, digits and hyphens, because the names of buckets begin with it."
  }
}

variable "allowed_cidrs" {
  description = "The CIDR blocks that may reach ports 80 and 443 of the controller, such as your own address with /32."
  type        = list(string)
}

variable "allow_anonymous" {
  description = "If true, whoever reaches the controller may use it, unless there are API tokens in the parameter store. If false, it does not start without them."
  type        = bool
  default     = false
}

variable "vpc_id" {
  description = "The VPC of controller and workers. If empty, the default one of the region."
  type        = string
  default     = ""
}

variable "subnet_ids" {
  description = "The subnets of that VPC to use, which must give public addresses. If empty, its default ones."
  type        = list(string)
  default     = []
}

variable "host_names" {
  description = "The DNS names of the controller. It answers only to these and to its address."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for host in var.host_names : can(regex("^[A-Za-z0-9.-]+$", host))])
    error_message = "Each one is a name alone, such as classifier.example.org, without https:// and without a port."
  }
}

variable "images_per_minute" {
  description = "The most images per minute of each token, or of each address where there are no tokens; 0: no limit."
  type        = number
  default     = 3000
}

variable "controller_type" {
  type    = string
  default = "t3.small"
}

variable "controller_disk" {
  description = "The GB of the controller's disk: at least 8 more than the AMI has (make_ami --disk), because 10 are for uploads."
  type        = number
  default     = 24
}

variable "instance_types" {
  description = "The instance types of the workers, the best first. The next one is tried when EC2 has no capacity."
  type        = list(string)
  default     = ["c7i.large", "c6i.large", "m7i.large"]
  validation {
    condition     = length(var.instance_types) > 0 && alltrue([for one in var.instance_types : can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", one))])
    error_message = "At least one instance type, each of them like c7i.large."
  }
}

variable "market" {
  description = "on-demand or spot. With spot, on-demand instances are launched when there is no spot capacity."
  type        = string
  default     = "on-demand"
  validation {
    condition     = contains(["on-demand", "spot"], var.market)
    error_message = "It is on-demand or spot."
  }
}

variable "price_per_hour" {
  description = "What one worker costs, in dollars per hour. GET /fleet shows the costs."
  type        = number
  default     = 0.08925
}

variable "worker_name" {
  type    = string
  default = "app-tier-instance"
  validation {
    condition     = can(regex("^[A-Za-z0-9._-]{1,100}$", var.worker_name))
    error_message = "1 to 100 letters, digits, dots, hyphens and underscores."
  }
}

variable "key_name" {
  description = "The EC2 key pair for ssh, or empty. The security groups do not open port 22."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^[^$\"\\\\\\x00-\\x1f]*$", var.key_name))
    error_message = "The name of the key pair contains no quotation mark, backslash, dollar sign or line break."
  }
}

variable "max_instances" {
  type    = number
  default = 10
}

variable "max_images_per_instance" {
  type    = number
  default = 20
}

variable "scaling" {
  description = "Whether the images that wait alone decide how many workers run (queue), or also how fast they come (rate)."
  type        = string
  default     = "queue"
  validation {
    condition     = contains(["queue", "rate"], var.scaling)
    error_message = "It is queue or rate."
  }
}

variable "warm_pool" {
  description = "The most idle workers that are stopped instead of terminated. A stopped one costs only its disk."
  type        = number
  default     = 0
}

variable "visibility_timeout" {
  description = "The seconds until a message whose image has no prediction goes to another worker."
  type        = number
  default     = 60
}

variable "max_receives" {
  type    = number
  default = 4
}

variable "keep_days" {
  description = "The days after which images and predictions are deleted."
  type        = number
  default     = 30
}

variable "batch_sources" {
  description = "What batches may read: s3://bucket/prefix, which controller and workers get permission for. Empty: there are no batches."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for source in var.batch_sources : can(regex("^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^,*?$\"'\\\\\\x00-\\x1f]*)?$", source))])
    error_message = "Each source is s3://bucket or s3://bucket/prefix, without any of , * ? $, quotes, backslashes and line breaks."
  }
}

variable "batch_share" {
  description = "The percent of max_instances that batches with neither deadline nor budget may have."
  type        = number
  default     = 80
}

variable "notify_topic" {
  description = "The ARN of a standard SNS topic that the controller tells when a request or a batch is complete. Empty: none."
  type        = string
  default     = ""
  validation {
    condition     = var.notify_topic == "" || can(regex("^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$", var.notify_topic))
    error_message = "The ARN of a topic that is not FIFO, such as arn:aws:sns:us-east-1:123456789012:images-done."
  }
}

variable "model" {
  type    = string
  default = "resnet18"
  validation {
    condition     = contains(["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2", "efficientnet_lite0"], var.model)
    error_message = "It is one of the models of docs/settings.md, such as resnet18."
  }
}

variable "weights" {
  description = "imagenet, or a state dict: its path on the AMI, or s3://bucket/key."
  type        = string
  default     = "imagenet"
  validation {
    condition     = can(regex("^[^$\"\\\\\\x00-\\x1f]*$", var.weights))
    error_message = "The path or address of the weights contains no quotation mark, backslash, dollar sign or line break."
  }
}

variable "labels" {
  description = "The file of class names, if they are not those of ImageNet: its path on the AMI, or s3://bucket/key."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^[^$\"\\\\\\x00-\\x1f]*$", var.labels))
    error_message = "The path or address of the labels contains no quotation mark, backslash, dollar sign or line break."
  }
}

variable "engine" {
  description = "openvino, or torch, which the AMI must have (make_ami --engine torch)."
  type        = string
  default     = "openvino"
  validation {
    condition     = contains(["openvino", "torch"], var.engine)
    error_message = "It is openvino or torch."
  }
}

variable "precision" {
  description = "auto, fp32, bf16 or int8: the one that the AMI was made with (make_ami --precision)."
  type        = string
  default     = "auto"
  validation {
    condition     = contains(["auto", "fp32", "bf16", "int8"], var.precision)
    error_message = "It is auto, fp32, bf16 or int8."
  }
}

variable "s3_path_style" {
  description = "Must be true for an endpoint that is not AWS, such as the local one."
  type        = bool
  default     = false
}
