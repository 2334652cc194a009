# The bucket is one that this folder makes, so the first apply of a new account runs without this
# file, on local state, which is then pushed here: docs/adr/0001-state-bucket.md.
# bucket and region are given at init with -backend-config.
terraform {
  backend "s3" {
    key          = "account/terraform.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}
