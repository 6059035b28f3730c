"""Every metric once. Counts in plain numbers, flushed on a timer. The one door to prometheus_client."""
