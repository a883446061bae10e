"""fastnn's own benchmarks, a topic a file, run by asv (airspeed velocity): see CONTRIBUTING.md.

They import fastnn and each other, nothing else of this repository: asv runs them against other versions of fastnn too.
"""
