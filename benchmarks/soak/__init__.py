"""A site of two hosts that is broken on purpose; see benchmarks/soak_queue.py."""
