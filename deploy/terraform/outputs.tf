output "environment" {
  description = "the settings of controller and workers, as an env file"
  value       = join("", [for name, value in local.environment : "${name}='${value}'\n" if name != "API_TOKENS"])
}

output "page" {
  value = "http://${aws_eip.controller.public_ip}/"
}
