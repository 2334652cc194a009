# This folder creates the state bucket. The first apply in a new account therefore uses local state,
# without this file, and then pushes that state here: docs/adr/0001-state-bucket.md.
# `terraform init -backend-config` sets bucket and region.
terraform {
  backend "s3" {
    key          = "account/terraform.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}
