variable "app" {
  description = "Name of the application; begins every name and is the ECR repository."
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

variable "environment" {
  description = "Name of the environment; equal to the workspace, so that one's settings never reach the other's state."
  type        = string

  validation {
    condition     = var.environment == terraform.workspace
    error_message = "environment: the settings are those of \"${var.environment}\", the workspace is \"${terraform.workspace}\". Select the workspace that belongs to them: terraform workspace select ${var.environment}."
  }

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,18}[a-z0-9]$", var.environment)) && !contains(["account", "github"], var.environment)
    error_message = "environment: 2 to 20 lower-case letters, digits and hyphens, beginning with a letter, neither account nor github, not \"${var.environment}\"."
  }
}

variable "region" {
  description = "AWS region of everything here."
  type        = string

  validation {
    condition     = can(regex("^(us|us-gov|eu|ap|sa|ca|me|af|il|mx|cn)-(north|south|east|west|central|northeast|northwest|southeast|southwest)-[1-9]$", var.region))
    error_message = "region: an AWS region such as us-east-1, not \"${var.region}\"."
  }
}

variable "zone" {
  description = "Domain of the public DNS zone that the account has."
  type        = string

  validation {
    condition     = length(var.zone) <= 253 && can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+([a-z]{2,63}|xn--[a-z0-9-]{0,58}[a-z0-9])$", var.zone))
    error_message = "zone: a domain in lower case without a dot at the end, such as example.com, not \"${var.zone}\"."
  }
}

variable "names" {
  description = "DNS names of the application, in the zone; the first one is its URL."
  type        = list(string)

  validation {
    condition     = length(var.names) > 0 && length(var.names) <= 20 && length(distinct(var.names)) == length(var.names)
    error_message = "names: 1 to 20 names, and none twice, not ${jsonencode(var.names)}."
  }

  validation {
    condition     = alltrue([for name in var.names : length(name) <= 253 && can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+([a-z]{2,63}|xn--[a-z0-9-]{0,58}[a-z0-9])$", name))])
    error_message = "names: DNS names in lower case, at most 63 characters between dots and 253 in all, not ${jsonencode(var.names)}."
  }

  validation {
    condition     = alltrue([for name in var.names : name == var.zone || endswith(name, ".${var.zone}")])
    error_message = "names: each is ${var.zone} or ends with .${var.zone}, not ${jsonencode(var.names)}."
  }
}

variable "cidr" {
  description = "Address range of the VPC; no two environments share one."
  type        = string

  validation {
    condition     = can(cidrsubnet(var.cidr, 8, 1)) && can(regex("/(16|17|18|19|20)$", var.cidr))
    error_message = "cidr: an IPv4 range from /16 to /20 such as 10.20.0.0/16, not \"${var.cidr}\"."
  }

  validation {
    condition     = try(cidrhost(var.cidr, 0) == split("/", var.cidr)[0], true)
    error_message = "cidr: the first address of the range, ${try(cidrhost(var.cidr, 0), "")}, not \"${var.cidr}\"."
  }

  # 172.17.0.0/16 is Docker's own bridge on every host.
  validation {
    condition     = can(regex("^(10|172\\.(1[6-9]|2[0-9]|3[01])|192\\.168)\\.", var.cidr)) && !startswith(var.cidr, "172.17.")
    error_message = "cidr: a private range such as 10.20.0.0/16, and not Docker's 172.17.0.0/16, not \"${var.cidr}\"."
  }
}

variable "operators" {
  description = "Address ranges that may reach SSH; none leaves Session Manager."
  type        = list(string)

  validation {
    condition     = alltrue([for range in var.operators : try(cidrhost(range, 0) == split("/", range)[0] && tonumber(split("/", range)[1]) >= 8 && can(cidrnetmask(range)), false)])
    error_message = "operators: IPv4 ranges from /8 to /32 by their first address such as 203.0.113.7/32, not ${jsonencode(var.operators)}."
  }

  validation {
    condition     = alltrue([for range in var.operators : !can(regex("^(0|127|169\\.254|22[4-9]|2[3-5][0-9])\\.", range))])
    error_message = "operators: ranges that somebody can connect from, not ${jsonencode(var.operators)}."
  }

  # AWS allows 60 inbound rules in a security group; two are for HTTP and HTTPS.
  validation {
    condition     = length(var.operators) <= 58 && length(distinct(var.operators)) == length(var.operators)
    error_message = "operators: at most 58, and none twice, not ${length(var.operators)}."
  }
}

variable "public_keys" {
  description = "The team's SSH public keys, as in authorized_keys; the first becomes the key pair. Read at a host's first boot only."
  type        = list(string)

  validation {
    condition     = length(var.public_keys) > 0
    error_message = "public_keys: at least one, or nobody could log in."
  }

  validation {
    condition     = alltrue([for key in var.public_keys : can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh.com) [A-Za-z0-9+/]+=*( .*)?$", trimspace(key)))])
    error_message = "public_keys: each is one line of authorized_keys: ssh-ed25519 AAAA… name."
  }

  validation {
    condition     = can(regex("^ssh-(ed25519|rsa) ", var.public_keys[0]))
    error_message = "public_keys: the first becomes the EC2 key pair, which takes ed25519 and rsa only."
  }
}

variable "instance_type" {
  description = "EC2 instance type of the hosts."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}\\.[a-z0-9-]{1,30}$", var.instance_type))
    error_message = "instance_type: an EC2 instance type such as t3.small, not \"${var.instance_type}\"."
  }
}

variable "disk_gib" {
  description = "Size of a host's disk in GiB."
  type        = number

  validation {
    condition     = var.disk_gib >= 8 && var.disk_gib <= 16384 && floor(var.disk_gib) == var.disk_gib
    error_message = "disk_gib: a whole number from 8 (the Debian image) to 16384 (gp3), not ${var.disk_gib}."
  }
}

variable "ami" {
  description = "AMI of the hosts; empty for the newest Debian 13 there is at their first apply. Changing it replaces the hosts."
  type        = string
  default     = ""

  validation {
    condition     = var.ami == "" || can(regex("^ami-[0-9a-f]{8,17}$", var.ami))
    error_message = "ami: an id such as ami-0123456789abcdef0, or empty for Debian 13, not \"${var.ami}\"."
  }
}

variable "port" {
  description = "Loopback port of the application on a host, with the one above for a release beside it; only handed on to Ansible."
  type        = number
  default     = 8000

  validation {
    condition     = var.port >= 1024 && var.port <= 32766 && floor(var.port) == var.port && !contains([2018, 2019, 17499, 17500], var.port)
    error_message = "port: 1024 to 32766, and neither it nor the one above 2019 (Caddy's admin API) or 17500 (db-lsp), not ${var.port}."
  }
}

variable "instance_count" {
  description = "How many hosts."
  type        = number
  default     = 1

  validation {
    condition     = var.instance_count >= 1 && var.instance_count <= 9 && floor(var.instance_count) == var.instance_count
    error_message = "instance_count: 1 to 9, not ${var.instance_count}."
  }
}

variable "protected" {
  description = "Whether the hosts have API termination protection."
  type        = bool
  default     = false
}

variable "deploy_via" {
  description = "How a push on GitHub is released: by a runner on the host, by Systems Manager, or not at all."
  type        = string
  default     = "none"

  validation {
    condition     = contains(["runner", "ssm", "none"], var.deploy_via)
    error_message = "deploy_via: runner, ssm or none, not \"${var.deploy_via}\"."
  }
}

variable "github" {
  description = "The application's repository, as GitHub says it in the token's subject, and the branch that is released here."
  type = object({
    repository = optional(string, "")
    branch     = optional(string, "main")
  })
  default = {}

  validation {
    condition     = can(regex("^$|^[A-Za-z0-9]([A-Za-z0-9-]{0,37}[A-Za-z0-9])?(@[0-9]{1,20})?/[A-Za-z0-9._-]{1,100}(@[0-9]{1,20})?$", var.github.repository))
    error_message = "github.repository: owner/name or owner@id/name@id, not \"${var.github.repository}\"."
  }

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}$", var.github.branch)) && !can(regex("\\.\\.|//|/\\.|\\.lock(/|$)|[./]$|^HEAD$", var.github.branch))
    error_message = "github.branch: one branch such as main, without a pattern, not \"${var.github.branch}\"."
  }

  validation {
    condition     = var.deploy_via != "ssm" || var.github.repository != ""
    error_message = "github.repository: whose workflow may ask for a release, with deploy_via: ssm."
  }
}

variable "snapshot_days" {
  description = "How many days a daily snapshot of each disk is kept; 0 for none."
  type        = number
  default     = 0

  validation {
    condition     = var.snapshot_days >= 0 && var.snapshot_days <= 365 && floor(var.snapshot_days) == var.snapshot_days
    error_message = "snapshot_days: 0 (none) to 365, not ${var.snapshot_days}."
  }
}

variable "alarm_email" {
  description = "Where alarms about the hosts are sent; empty for none."
  type        = string
  default     = ""

  validation {
    condition     = var.alarm_email == "" || can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alarm_email))
    error_message = "alarm_email: an address such as ops@example.com, or empty for no alarms, not \"${var.alarm_email}\"."
  }
}

variable "flow_log_days" {
  description = "How many days the VPC's flow logs are kept; 0 for none."
  type        = number
  default     = 0

  # https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
  validation {
    condition     = contains([0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.flow_log_days)
    error_message = "flow_log_days: 0 (none), or a number of days that CloudWatch knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731, not ${var.flow_log_days}."
  }
}
