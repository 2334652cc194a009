output "account_id" {
  description = "The account that all of this is in."
  value       = data.aws_caller_identity.this.account_id
}

output "state_bucket" {
  description = "Bucket of every Terraform state."
  value       = aws_s3_bucket.state.bucket
}

output "records_bucket" {
  description = "Bucket of the closed records."
  value       = aws_s3_bucket.records.bucket
}

output "ecr_repository_url" {
  description = "Where images are pushed to and pulled from, without a tag."
  value       = aws_ecr_repository.this.repository_url
}

output "zone_id" {
  description = "Id of the DNS zone."
  value       = local.zone.zone_id
}

output "name_servers" {
  description = "Name servers to enter at the domain's registrar."
  value       = local.zone.name_servers
}

output "github_roles" {
  description = "ARNs of the roles for GitHub's workflows: plan, push, and run- with each environment's name; empty without a repository."
  value       = { for key, role in aws_iam_role.github : key => role.arn }
}
