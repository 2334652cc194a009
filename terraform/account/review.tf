# The reviewed repository, the required state of the checkout and the number of approvals, by environment.
# Daybook reads them from the account, because a checkout cannot prove its own review. No host and no
# workflow can write this parameter or `reviewed`, which holds the newest reviewed commit used for a change.
resource "aws_ssm_parameter" "review" {
  # checkov:skip=CKV2_AWS_34:a URL and three words are no secret
  name        = "/${var.app}/account/review"
  description = "The reviewed repository of ${var.app}, and what each environment requires"
  type        = "String"

  value = jsonencode({
    remote      = var.review_remote
    require_git = { for name, environment in var.environments : name => environment.require_git }
    approvals   = { for name, environment in var.environments : name => environment.approvals }
  })
}
