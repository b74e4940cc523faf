variable "subnet_id" {
  description = "Subnet of the control host. It needs a way out to AWS and to the package index, and to the jobs' hooks."
  type        = string
}

variable "package" {
  description = "What pip installs: a wheel's address, or git+https://...@VERSION of this repository."
  type        = string
}

variable "permissions" {
  description = "Which policy of deploy/iam/aws the host's role gets: read-only, in-place or replace."
  type        = string
  default     = "read-only"

  validation {
    condition     = contains(["read-only", "in-place", "replace"], var.permissions)
    error_message = "permissions is one of read-only, in-place, replace."
  }
}

variable "launch_role_arns" {
  description = "Roles that launch templates give to new machines; with replace the host may hand over these and no others."
  type        = list(string)
  default     = []
}

variable "name" {
  description = "Name of the host, its role and its security group."
  type        = string
  default     = "scaleahead"
}

variable "instance_type" {
  description = "Type of the control host: two cores and 4 GiB do."
  type        = string
  default     = "t3.medium"
}

variable "disk_gib" {
  description = "Size of its disk in GiB, on which the store lies."
  type        = number
  default     = 30
}

variable "policies" {
  description = "Text of the policy file; empty for the one that only recommends."
  type        = string
  default     = ""
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
}

variable "pip_options" {
  description = "More for pip, such as --extra-index-url with the index that torch for CPUs is taken from."
  type        = string
  default     = ""
}
