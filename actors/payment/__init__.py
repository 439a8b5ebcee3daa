"""The payment service: charges delivered orders through the payment provider."""
