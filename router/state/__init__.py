"""What the router remembers between requests. Time is passed in; nothing here reads a clock, logs or does I/O."""
