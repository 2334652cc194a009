output "account_id" {
  description = "Id of the AWS account."
  value       = data.aws_caller_identity.this.account_id
}

output "state_bucket" {
  description = "Bucket of all Terraform states."
  value       = aws_s3_bucket.state.bucket
}

output "records_bucket" {
  description = "Bucket of the records of finished runs."
  value       = aws_s3_bucket.records.bucket
}

output "ecr_repository_url" {
  description = "URL of the image repository, without a tag."
  value       = aws_ecr_repository.this.repository_url
}

output "zone_id" {
  description = "Id of the DNS zone."
  value       = local.zone.zone_id
}

output "name_servers" {
  description = "Name servers to set at the registrar of the domain."
  value       = local.zone.name_servers
}

output "github_roles" {
  description = "ARNs of the roles for GitHub workflows by name: plan, push and run-ENVIRONMENT. Empty if no repository is set."
  value       = { for key, role in aws_iam_role.github : key => role.arn }
}
