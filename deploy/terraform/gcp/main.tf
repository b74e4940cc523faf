# The control host and its role on Google Cloud. It has no public address, and its API is on loopback: open a tunnel through
# Identity-Aware Proxy to get there (output "tunnel").

locals {
  role = yamldecode(file("${path.module}/../../iam/gcp/${var.permissions}.yaml"))
  install = templatefile("${path.module}/../install.sh.tftpl", {
    pip_options = var.pip_options
    config      = yamlencode({ policies = ["/etc/scaleahead/policies.yaml"], providers = { gcp = { project = var.project } } })
    policies    = var.policies != "" ? var.policies : file("${path.module}/../../compose/policies/policies.yaml")
    constraints = file("${path.module}/../../../constraints.txt")
    unit        = file("${path.module}/../../systemd/scaleahead.service")
    package     = var.package
  })
}

resource "google_service_account" "host" {
  project      = var.project
  account_id   = var.name
  display_name = "Scaleahead control host"
}

resource "google_project_iam_custom_role" "acting" {
  project     = var.project
  role_id     = replace("${var.name}_${var.permissions}", "-", "_")
  title       = local.role.title
  description = local.role.description
  stage       = local.role.stage
  permissions = local.role.includedPermissions
}

resource "google_project_iam_member" "acting" {
  project = var.project
  role    = google_project_iam_custom_role.acting.name
  member  = google_service_account.host.member
}

resource "google_service_account_iam_member" "launch" {
  for_each           = var.launch_service_accounts
  service_account_id = "projects/${var.project}/serviceAccounts/${each.value}"
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.host.member
}

resource "google_compute_firewall" "tunnel" {
  project       = var.project
  name          = "${var.name}-tunnel"
  network       = var.network
  description   = "ssh to the control host from Identity-Aware Proxy, and from nowhere else."
  source_ranges = ["35.235.240.0/20"]
  target_tags   = [var.name]

  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}

resource "google_compute_instance" "host" {
  project                 = var.project
  zone                    = var.zone
  name                    = var.name
  machine_type            = var.machine_type
  tags                    = [var.name]
  labels                  = var.labels
  metadata_startup_script = local.install

  metadata = {
    enable-oslogin         = "TRUE"
    block-project-ssh-keys = "TRUE"
  }

  boot_disk {
    initialize_params {
      image = "debian-cloud/debian-12"
      size  = var.disk_gib
    }
  }

  network_interface {
    subnetwork = var.subnetwork
  }

  service_account {
    email  = google_service_account.host.email
    scopes = ["cloud-platform"]
  }

  shielded_instance_config {
    enable_secure_boot = true
  }

  # The store lies on this machine: a newer image or another text of the installation must not replace it.
  lifecycle {
    ignore_changes = [boot_disk[0].initialize_params[0].image, metadata_startup_script]
  }
}
