# One state per workspace: env:/staging/environment/terraform.tfstate, for example.
# `terraform init -backend-config` sets bucket and region.
terraform {
  backend "s3" {
    key          = "environment/terraform.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}
