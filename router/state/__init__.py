"""Memory of the router, time passed in: leases, estimates, the fleet view. Single-threaded, no I/O."""
