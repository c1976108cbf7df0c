"""A stand-in for a cluster with KServe: the API server, the controllers, and the served endpoint."""
