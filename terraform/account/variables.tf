variable "app" {
  description = "Name of the application; begins every name in the account and is the ECR repository."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}[a-z0-9]$", var.app))
    error_message = "app: 2 to 25 lower-case letters, digits and hyphens, beginning with a letter, not \"${var.app}\"."
  }

  # Parameter Store, Systems Manager, EC2 and S3 refuse names that begin so.
  validation {
    condition     = !can(regex("^(amazon|amzn|aws|sg-|sg$|ssm|sthree-|xn--)", var.app))
    error_message = "app: a name that does not begin as AWS's own do, not \"${var.app}\"."
  }
}

variable "region" {
  description = "AWS region of the state bucket and the ECR repository."
  type        = string

  validation {
    condition     = can(regex("^(us|us-gov|eu|ap|sa|ca|me|af|il|mx|cn)-(north|south|east|west|central|northeast|northwest|southeast|southwest)-[1-9]$", var.region))
    error_message = "region: an AWS region such as us-east-1, not \"${var.region}\"."
  }
}

variable "zone" {
  description = "Domain of the public DNS zone, without a dot at the end."
  type        = string

  validation {
    condition     = length(var.zone) <= 253 && can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+([a-z]{2,63}|xn--[a-z0-9-]{0,58}[a-z0-9])$", var.zone))
    error_message = "zone: a domain in lower case without a dot at the end, such as example.com, not \"${var.zone}\"."
  }
}

variable "zone_id" {
  description = "Id of a zone that exists and is somebody else's to keep; null to make one here."
  type        = string
  default     = null
}

variable "adopt" {
  description = "What an earlier bootstrap made, by import id, so that a lost state is only an import away; no effect on what is in the state already."
  type = object({
    state_bucket   = optional(string)
    records_bucket = optional(string)
    repository     = optional(string)
    zone           = optional(string)
    boundaries     = optional(map(string), {}) # by environment
    machines       = optional(map(string), {}) # by environment
    review         = optional(string)
    provider       = optional(string)
    github_roles   = optional(list(string), []) # "plan", "push", "run-staging"
  })
  default = {}
}

variable "environments" {
  description = "The account's environments: their DNS names, which bound what their workflows may change, and what they require of a change."
  type = map(object({
    names       = list(string)
    require_git = optional(string, "any") # any, clean or pushed
    approvals   = optional(number, 0)     # people besides the operator, 0 or 1
  }))
  default = { staging = { names = [] }, production = { names = [] } }

  # Locks, parameters and roles of the account's own have these names.
  validation {
    condition     = alltrue([for name in keys(var.environments) : can(regex("^[a-z][a-z0-9-]{0,18}[a-z0-9]$", name)) && !contains(["account", "github"], name)]) && length(var.environments) > 0
    error_message = "environments: names of environments, at least one, neither account nor github, not ${jsonencode(keys(var.environments))}."
  }

  validation {
    condition     = alltrue(flatten([for each in values(var.environments) : [for name in each.names : can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", name))]]))
    error_message = "environments: names are DNS names in lower case, without a pattern."
  }

  validation {
    condition     = length(distinct(flatten(values(var.environments)[*].names))) == length(flatten(values(var.environments)[*].names))
    error_message = "environments: no DNS name belongs to two of them."
  }

  validation {
    condition     = alltrue([for each in values(var.environments) : contains(["any", "clean", "pushed"], each.require_git)])
    error_message = "environments: require_git is any, clean or pushed."
  }

  validation {
    condition     = alltrue([for each in values(var.environments) : contains([0, 1], each.approvals)])
    error_message = "environments: approvals is 0 or 1."
  }
}

variable "review_remote" {
  description = "URL of the repository whose default branch is reviewed; empty for none."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^$|^(https|ssh|file|http)://[A-Za-z0-9@._~:/-]+$", var.review_remote))
    error_message = "review_remote: a URL without a password, or empty."
  }
}

variable "github" {
  description = "Who on GitHub gets a role here: anybody on a branch of the application may push images, a pull request of the repository may look, a job of an environment may run Daybook for that environment. Without a repository nobody does."
  type = object({
    repository     = optional(string, "")
    application    = optional(string, "") # where it is not the same
    branches       = optional(list(string), ["main"])
    makes_provider = optional(bool, true) # false where the account has somebody else's
  })
  default = {}

  # Newer repositories call themselves owner@1/name@2, with ids that are never given again.
  # https://github.blog/changelog/2026-04-23-immutable-subject-claims-for-github-actions-oidc-tokens/
  validation {
    condition     = alltrue([for name in [var.github.repository, var.github.application] : can(regex("^$|^[A-Za-z0-9]([A-Za-z0-9-]{0,37}[A-Za-z0-9])?(@[0-9]{1,20})?/[A-Za-z0-9._-]{1,100}(@[0-9]{1,20})?$", name))])
    error_message = "github.repository, github.application: owner/name or owner@id/name@id, as GitHub says it in the token's subject, not \"${var.github.repository}\", \"${var.github.application}\"."
  }

  validation {
    condition     = alltrue([for name in var.github.branches : can(regex("^[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}$", name)) && !can(regex("\\.\\.|//|/\\.|\\.lock(/|$)|[./]$|^HEAD$", name))]) && length(var.github.branches) > 0
    error_message = "github.branches: branches such as main, without a pattern, not ${jsonencode(var.github.branches)}."
  }
}

variable "record_days" {
  description = "How long a record cannot be removed from its bucket, in days."
  type        = number
  default     = 365

  validation {
    condition     = var.record_days >= 1 && var.record_days <= 36500 && floor(var.record_days) == var.record_days
    error_message = "record_days: a whole number from 1 to 36500, not ${var.record_days}."
  }
}
