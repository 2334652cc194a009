output "environment" {
  description = "Name of the environment: the inventory's group."
  value       = var.environment
}

output "app" {
  description = "Name of the application."
  value       = var.app
}

output "names" {
  description = "DNS names of the application."
  value       = var.names
}

output "app_port" {
  description = "Loopback port of the application on a host."
  value       = var.port
}

output "urls" {
  description = "Where the application answers, by each of its names."
  value       = [for name in var.names : "https://${name}/"]
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

  # Who reads the address wants to use it.
  depends_on = [aws_eip_association.host]
}

output "ecr_repository_url" {
  description = "Where images are pulled from, without a tag."
  value       = data.aws_ecr_repository.this.repository_url
}

output "role_arn" {
  description = "The hosts' IAM role."
  value       = aws_iam_role.host.arn
}

output "ami" {
  description = "The image that the hosts run, and the newest that Debian has."
  value       = { running = [for instance in aws_instance.host : instance.ami], newest = data.aws_ami.debian.id }
}

output "metrics_namespace" {
  description = "CloudWatch namespace of what the hosts tell of themselves, disk_used_percent with their InstanceId; empty without alarms."
  value       = local.has_alarms ? local.metrics : ""
}

output "parameters" {
  description = "Path of the parameters that the hosts may read."
  value       = "/${var.app}/${var.environment}/"
}

output "public_keys" {
  description = "The SSH keys that hosts should let in, the team's whole list."
  value       = var.public_keys
}
