"""HTTP in, HTTP out. No decision is taken here. The one door to starlette."""
