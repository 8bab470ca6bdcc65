output "environment" {
  description = "The settings of controller and workers, as an environment file."
  value       = local.environment_file
}

output "controller" {
  description = "The id of the controller's instance. A reboot lets it take over other settings."
  value       = aws_instance.controller.id
}

output "fleet" {
  description = "The tag `fleet` of the workers."
  value       = aws_s3_bucket.images["state"].bucket
}

output "page" {
  description = "The address of the web page."
  value       = "http://${aws_eip.controller.public_ip}"
}
