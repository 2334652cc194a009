# Daybook sets these variables from environments/*.yml, and validates those files. The only validations
# here are those that the settings of a single environment cannot make: the comparison of environments
# with each other, and record_days, which is not a setting.

variable "app" {
  description = "Name of the application: the prefix of all names in the account and the name of the ECR repository."
  type        = string
}

variable "region" {
  description = "AWS region of the buckets and the ECR repository."
  type        = string
}

variable "dns_zone" {
  description = "Domain of the public DNS zone, without a trailing dot."
  type        = string
}

variable "zone_id" {
  description = "Id of an existing hosted zone that Daybook does not manage; null to create the zone."
  type        = string
  default     = null
}

variable "import_ids" {
  description = "Import ids of resources that an earlier bootstrap created. Resources in the state are not imported again."
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
  description = "The environments of the account, with their domains, which limit the records that workflows can change, and their requirements for a change."
  type = map(object({
    domains     = list(string)
    require_git = string # any, clean or pushed
    approvals   = number # people besides the operator
  }))

  validation {
    condition     = length(distinct(flatten(values(var.environments)[*].domains))) == length(flatten(values(var.environments)[*].domains))
    error_message = "environments: two environments have the same domain. Correct domains in one of environments/${join(".yml, environments/", keys(var.environments))}.yml."
  }
}

variable "review_remote" {
  description = "URL of the reviewed repository, without a password; empty for none."
  type        = string
}

variable "github" {
  description = "Repositories with roles in the account: branches of the application push images, pull requests of the repository plan, and jobs of an environment run Daybook in that environment. Empty repository: no roles."
  type = object({
    repository      = string
    application     = string # empty: the same repository
    branches        = list(string)
    create_provider = bool # false: another application created the account's OIDC provider
  })
}

variable "record_days" {
  description = "Retention of records in days: how long Object Lock prevents their deletion."
  type        = number
  default     = 365

  validation {
    condition     = var.record_days >= 1 && var.record_days <= 36500 && floor(var.record_days) == var.record_days
    error_message = "record_days: expected a whole number from 1 to 36500, got ${var.record_days}."
  }
}
