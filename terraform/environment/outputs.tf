output "environment" {
  description = "Name of the environment and of its inventory group."
  value       = var.environment
}

output "app" {
  description = "Name of the application."
  value       = var.app
}

output "names" {
  description = "DNS names of the application."
  value       = var.domains
}

output "app_port" {
  description = "Loopback port of the application on a host."
  value       = var.port
}

output "urls" {
  description = "URL of the application, for each of its DNS names."
  value       = [for name in var.domains : "https://${name}/"]
}

output "instances" {
  description = "The hosts: id, name, DNS name, public_ip, private_ip."
  value = [for key, instance in aws_instance.host : {
    id         = instance.id
    name       = local.hosts[key]
    dns_name   = aws_route53_record.host[key].name
    public_ip  = aws_eip.host[key].public_ip
    private_ip = instance.private_ip
  }]

  # An address is usable only after its association.
  depends_on = [aws_eip_association.host]
}

output "ecr_repository_url" {
  description = "URL of the image repository, without a tag."
  value       = data.aws_ecr_repository.this.repository_url
}

output "role_arn" {
  description = "ARN of the IAM role of the hosts."
  value       = aws_iam_role.host.arn
}

output "ami" {
  description = "The images that the hosts run, and the newest Debian image at the time of the apply."
  value       = { running = [for instance in aws_instance.host : instance.ami], newest = data.aws_ami.debian.id }
}

output "metrics_namespace" {
  description = "CloudWatch namespace of the metrics that the hosts publish: disk_used_percent by InstanceId. Empty without alarms."
  value       = local.has_alarms ? local.metrics : ""
}

output "parameters" {
  description = "Path of the parameters that the hosts can read."
  value       = "/${var.app}/${var.environment}/"
}

output "public_keys" {
  description = "SSH public keys of the team with access to the hosts."
  value       = var.public_keys
}
