"""Benchmarks: fastnn's own, and the same work done by what users would pick instead."""
