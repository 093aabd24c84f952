"""P1: what robust training does to dataset bias (Pradhan et al., Rendezvous)."""
