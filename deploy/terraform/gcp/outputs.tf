output "instance" {
  description = "The control host."
  value       = google_compute_instance.host.id
}

output "service_account" {
  description = "Its service account, for further permissions."
  value       = google_service_account.host.email
}

output "network_tag" {
  description = "Let machines with this tag in to the ports of jobs' hooks."
  value       = var.name
}

output "tunnel" {
  description = "Command that brings the API to 127.0.0.1:8642 of your own computer."
  value       = "gcloud compute ssh ${google_compute_instance.host.name} --project ${var.project} --zone ${var.zone} --tunnel-through-iap -- -L 8642:127.0.0.1:8642"
}
