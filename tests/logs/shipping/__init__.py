"""Shipping: queue, spool, delivery, and the receivers in the network."""
