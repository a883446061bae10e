"""The training workloads in fastnn and in its peers, timed side by side: ``python -m asv_bench.peers.compare``."""
