output "environment" {
  description = "The settings of controller and workers, as an environment file."
  value       = join("", [for name, value in local.environment : "${name}='${value}'\n"])
}

output "page" {
  description = "The address of the web page."
  value       = "http://${aws_eip.controller.public_ip}/"
}
