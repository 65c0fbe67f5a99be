"""The paper's claims, the cuts that they rest on, and how they are decided."""
