# One state per workspace: env:/staging/environment/terraform.tfstate and so on.
# bucket and region are given at init with -backend-config.
terraform {
  backend "s3" {
    key          = "environment/terraform.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}
