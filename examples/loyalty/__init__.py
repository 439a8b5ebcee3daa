"""Loyalty: points for orders of the shop, and a mail for each delivery that failed. Only the rules of rules.yaml know the shop.

    actorloom run runtime.router actorloom_shop examples.loyalty    # and in another terminal:
    python -m examples.loyalty.gateway    # the mail gateway; and in a third one:
    actorloom rules apply examples/loyalty/rules.yaml --yes
    actorloom rules ls
    actorloom rules who delivery.DeliveryFailed
    actorloom query loyalty.get_points userId=ada

tests/examples/test_loyalty.py has its tests.
"""
