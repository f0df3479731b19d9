"""Services of a cluster: who holds an edge, one connection to each Frontier, one service over all."""
