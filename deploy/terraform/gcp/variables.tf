variable "project" {
  description = "Project of the control host and of the machines that it looks after."
  type        = string
}

variable "zone" {
  description = "Zone of the control host, such as us-central1-a."
  type        = string
}

variable "subnetwork" {
  description = "Subnetwork of the control host. It needs a way out (Cloud NAT) to the package index, and to the jobs' hooks."
  type        = string
}

variable "network" {
  description = "Network of that subnetwork."
  type        = string
}

variable "package" {
  description = "What pip installs: a wheel's address, or git+https://...@VERSION of this repository."
  type        = string
}

variable "permissions" {
  description = "Which role of deploy/iam/gcp the host's service account gets: read-only, in-place or replace."
  type        = string
  default     = "read-only"

  validation {
    condition     = contains(["read-only", "in-place", "replace"], var.permissions)
    error_message = "permissions is one of read-only, in-place, replace."
  }
}

variable "launch_service_accounts" {
  description = "Service accounts that instance templates give to new machines; with replace the host may act as these."
  type        = set(string)
  default     = []
}

variable "name" {
  description = "Name of the host, its service account and its firewall rule."
  type        = string
  default     = "scaleahead"
}

variable "machine_type" {
  description = "Type of the control host: two cores and 4 GiB do."
  type        = string
  default     = "e2-medium"
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

variable "labels" {
  description = "Labels of the control host."
  type        = map(string)
  default     = {}
}

variable "pip_options" {
  description = "More for pip, such as --extra-index-url with the index that torch for CPUs is taken from."
  type        = string
  default     = ""
}
