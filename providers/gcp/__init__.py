"""Edge: Google Cloud: Compute Engine instances and zonal managed instance groups."""
