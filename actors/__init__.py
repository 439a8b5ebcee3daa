"""The reference shop: six services that take an order from its price to its delivery and payment.

Each service is a package: `messages` has its contracts, `actor` its actor, and other modules its pure rules. A service
imports only the `messages` of another one. `actorloom run actorloom_shop` runs all of them; `actorloom demo` takes one
order through them (`demo`).

Each service shows patterns to copy:

- `products`: commands that create, modify and delete a state; modification events with the changed fields; lists by
  declared indexes; a query that validates many items.
- `orders`: a command that validates with three parallel queries and collects every error; a key derived from the
  command's id (`new_key`); a status that late events cannot set back; metrics counted after the commit.
- `warehouse`: a reaction that runs only if an event matches a pattern (`where`); stale events found by date; commands
  that are rejected in the wrong status.
- `delivery`: a reaction that queries another service and asks for a retry if the answer is not there yet; a pure pricing
  function.
- `payment`: a process over the events of three services; a failing provider, retries, and an alert after the last
  attempt.
- `payment_3p`: a simulated external system, with injected faults; operations that are safe to repeat, because a
  command id takes effect once.
"""
