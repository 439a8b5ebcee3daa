"""The reference shop: six services that take an order from its price to its delivery and payment.

`products` (the catalog), `delivery`, `orders`, `warehouse`, `payment` and `payment-3p` (a stand-in for an outside
provider). Each is a package with its contracts in `messages` and its actor in `actor`; a caller imports messages only.
`actorloom run actorloom_shop` runs them all.
"""
