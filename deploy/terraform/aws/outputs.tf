output "instance_id" {
  description = "The control host."
  value       = aws_instance.host.id
}

output "role_arn" {
  description = "Its role, for further permissions."
  value       = aws_iam_role.host.arn
}

output "security_group_id" {
  description = "Let this group in to the ports of jobs' hooks."
  value       = aws_security_group.host.id
}

output "session" {
  description = "Command that brings the API to 127.0.0.1:8642 of your own computer."
  value       = "aws ssm start-session --target ${aws_instance.host.id} --document-name AWS-StartPortForwardingSession --parameters portNumber=8642,localPortNumber=8642"
}
