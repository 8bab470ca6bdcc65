# Written by `python -m deploy.terraform_variables`: the settings that main.tf does not choose. What is not
# set has the default that docs/settings.md says.

locals {
  further_settings = {
    ANSWER_CACHE          = var.answer_cache
    BOOT_TIMEOUT          = var.boot_timeout
    IDLE_SHUTDOWN_SECONDS = var.idle_shutdown_seconds
    LOG_LEVEL             = var.log_level
    MAX_FILES             = var.max_files
    MAX_UPLOAD_MB         = var.max_upload_mb
    METRICS_PORT          = var.metrics_port
    REQUEST_TIMEOUT       = var.request_timeout
    WEB_THREADS           = var.web_threads
  }
}

variable "answer_cache" {
  description = "`on`: the same bytes are answered without another run of the same model"
  type        = string
  default     = null
}

variable "boot_timeout" {
  description = "seconds after which a worker that is not ready is replaced"
  type        = number
  default     = null
}

variable "idle_shutdown_seconds" {
  description = "seconds without work after which a worker that still runs shuts its machine down; 0: never; with SCALING=rate, it is two BOOT_TIMEOUTs at least"
  type        = number
  default     = null
}

variable "log_level" {
  description = "how much is logged: `DEBUG`, `INFO`, `WARNING` or `ERROR`"
  type        = string
  default     = null
}

variable "max_files" {
  description = "the most images in one request"
  type        = number
  default     = null
}

variable "max_upload_mb" {
  description = "the most megabytes in one request"
  type        = number
  default     = null
}

variable "metrics_port" {
  description = "port on which a worker has its metrics for Prometheus; 0: none"
  type        = number
  default     = null
}

variable "request_timeout" {
  description = "seconds that a POST waits for its answers, at most"
  type        = number
  default     = null
}

variable "web_threads" {
  description = "threads of a controller process; whoever waits for answers holds one"
  type        = number
  default     = null
}
