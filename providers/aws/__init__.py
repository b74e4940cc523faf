"""Edge: Amazon Web Services: EC2 instances and Auto Scaling groups."""
