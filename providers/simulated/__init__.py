"""Values: a simulated cloud of machines and node groups, its HTTP server, and the provider that speaks to it."""
