# Which repository is reviewed, what each environment requires of a commit, and how many people must
# approve a change. Daybook reads it here because a checkout cannot vouch for itself; no host and no
# workflow may write it, nor `reviewed` beside it, the newest commit of that repository that changed something.
resource "aws_ssm_parameter" "review" {
  # checkov:skip=CKV2_AWS_34:a URL and three words are no secret
  name        = "/${var.app}/account/review"
  description = "The reviewed repository of ${var.app}, and what each environment requires"
  type        = "String"

  value = jsonencode({
    remote      = var.review_remote
    require_git = { for name, each in var.environments : name => each.require_git }
    approvals   = { for name, each in var.environments : name => each.approvals }
  })
}
