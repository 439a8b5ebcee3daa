"""Calls of JetStream's JSON API."""

from typing import Any, Final, TypeVar

import msgspec

from runtime.nats.connection import Connection, NoResponders
from runtime.nats.jetstream.errors import ApiError
from runtime.nats.jetstream.responses import ApiErrorBody, ApiResponse

API: Final = "$JS.API."
"""The prefix of the API's subjects."""

_NO_RESPONDERS: Final = 503
"""The status of a request to a subject without subscribers."""

_ResponseT = TypeVar("_ResponseT", bound=ApiResponse)

encode = msgspec.json.Encoder().encode
"""Encode the body of a call."""


async def call(
    connection: Connection, operation: str, body: Any, response_type: type[_ResponseT], timeout: float
) -> _ResponseT:
    """Call the API and return the decoded response.

    Args:
        connection: The connection to send the request on.
        operation: The subject after `API`, for example ``STREAM.INFO.orders``.
        body: The request, encoded as JSON; None for an empty request.
        response_type: The struct to decode the response into.
        timeout: Seconds to wait for the response.

    Raises:
        ApiError: JetStream refused the call or is not enabled, or the response is unreadable.
        TimeoutError: No response came in time; whether the call was executed is unknown.
        PublishError: The request was not sent.
    """
    payload = b"" if body is None else encode(body)
    try:
        response = await connection.request(API + operation, payload, timeout=timeout)
    except NoResponders as error:
        reason = ApiErrorBody(_NO_RESPONDERS, 0, "no responders: JetStream is not enabled there")
        raise ApiError(operation, reason) from error
    try:
        decoded = msgspec.json.decode(response.payload, type=response_type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(operation, ApiErrorBody(500, 0, f"the response is unreadable: {error}")) from error
    if decoded.error is not None:
        raise ApiError(operation, decoded.error)
    return decoded
