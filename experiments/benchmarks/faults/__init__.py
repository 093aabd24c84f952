"""What kills, flipped bits, truncations, devices, processes and threads do to a job's numbers."""
