"""The products service: the catalog with its prices."""
