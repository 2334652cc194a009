# Daybook sets these variables from environments/<environment>.yml, and validates that file. The only
# validations here are those that the settings cannot make: the workspace, which a bare `terraform apply`
# can get wrong, and the public keys, which come from environments/signers and the operator's key file.

variable "app" {
  description = "Name of the application: the prefix of all names and the name of the ECR repository."
  type        = string
}

variable "environment" {
  description = "Name of the environment, equal to the workspace."
  type        = string

  # Settings of one environment must never reach the state of another.
  validation {
    condition     = var.environment == terraform.workspace
    error_message = "environment: the settings are those of \"${var.environment}\", but the workspace is \"${terraform.workspace}\". Select the matching workspace: terraform workspace select ${var.environment}."
  }
}

variable "region" {
  description = "AWS region of all resources."
  type        = string
}

variable "dns_zone" {
  description = "Domain of the public DNS zone, which terraform/account manages."
  type        = string
}

variable "domains" {
  description = "DNS names of the application, in the zone; the first one is its URL."
  type        = list(string)
}

variable "vpc_cidr" {
  description = "Private IPv4 range of the VPC. Environments do not share ranges."
  type        = string
}

variable "ssh_allowed_cidrs" {
  description = "IPv4 ranges with SSH access. Without any, Session Manager is the only access."
  type        = list(string)
}

variable "public_keys" {
  description = "SSH public keys of the team, in the format of authorized_keys. The first one becomes the EC2 key pair; all are read at the first boot of a host only."
  type        = list(string)

  validation {
    condition     = length(var.public_keys) > 0
    error_message = "public_keys: expected at least one key; without a key, no login is possible."
  }

  validation {
    condition     = alltrue([for key in var.public_keys : can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh.com) [A-Za-z0-9+/]+=*( .*)?$", trimspace(key)))])
    error_message = "public_keys: expected lines of authorized_keys such as \"ssh-ed25519 AAAA… name\". Correct environments/signers or your own public key file."
  }

  validation {
    condition     = can(regex("^ssh-(ed25519|rsa) ", var.public_keys[0]))
    error_message = "public_keys: EC2 key pairs are ed25519 or rsa, and no key has one of these types. Add one to environments/signers."
  }
}

variable "instance_type" {
  description = "EC2 instance type of the hosts."
  type        = string
}

variable "instance_count" {
  description = "Number of hosts."
  type        = number
}

variable "disk_gib" {
  description = "Size of the root volume of a host in GiB."
  type        = number
}

variable "ami" {
  description = "AMI of the hosts. Empty: the newest Debian image at the first apply. A change replaces the hosts."
  type        = string
}

variable "debian_images" {
  description = "AWS account and name patterns of the Debian images."
  type = object({
    owner = string
    names = list(string)
  })
}

variable "port" {
  description = "Loopback port of the application on a host; passed to Ansible only."
  type        = number
}

variable "deletion_protection" {
  description = "Protect the hosts from termination through the EC2 API."
  type        = bool
}

variable "deploy_via" {
  description = "How a push to GitHub is released: runner (on the host), ssm (Systems Manager) or none."
  type        = string
}

variable "github" {
  description = "Repository of the application, in the form of the token subject, and the branch that is released to this environment."
  type = object({
    repository = string
    branch     = string
  })
}

variable "snapshot_days" {
  description = "Retention of the daily disk snapshots in days; 0 for no snapshots."
  type        = number
}

variable "alarm_email" {
  description = "E-mail address for alarms about the hosts; empty for no alarms."
  type        = string
}

variable "flow_log_days" {
  description = "Retention of the VPC flow logs in days; 0 for no flow logs."
  type        = number
}
