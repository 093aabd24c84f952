"""Every training method and loss on real data, side by side: one table, three seeds."""
