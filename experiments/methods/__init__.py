"""Training methods and losses on real data, side by side: one table, three seeds."""
