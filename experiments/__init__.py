"""Experiments: one package a paper, and the benchmarks."""
