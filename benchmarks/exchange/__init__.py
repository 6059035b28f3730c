"""Where the router's time goes in one request, in-process and without sockets."""
