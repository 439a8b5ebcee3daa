"""Booking: a saga over three services. A trip is a flight, a hotel and a payment, all of them or none.

    actorloom run examples.booking    # and in another terminal:
    actorloom command trips.book_trip trip_id=t1 flight=LH1 hotel=Ritz card=4242 amount=600 --id t1
    actorloom command trips.book_trip trip_id=t2 flight=LH1 hotel=Ritz card=4242 amount=600 --id t2
    actorloom query trips.list_trips status=refused

A refusal undoes the trip. A step whose outcome stays unknown does not: it waits for an operator. examples/saga.py undoes such a step, too.

tests/examples/test_booking.py has its tests.
"""
