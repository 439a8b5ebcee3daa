"""Export of a side's spans before a round is over."""

import asyncio

from runtime.telemetry import Tracing


class SpanExport:
    """A side whose spans are exported and counted by `flush`."""

    def __init__(self, tracing: Tracing) -> None:
        self.tracing = tracing
        self._counted = (0, 0)

    async def flush(self) -> dict[str, float]:
        """Export all ended spans; return how many were exported and dropped since the last call.

        The result is empty if tracing is off.
        """
        await asyncio.to_thread(self.tracing.flush, 20.0)
        exporter = self.tracing.exporter
        if exporter is None:
            return {}
        exported, dropped = exporter.exported, exporter.rejected + self.tracing.recorder.dropped
        before, self._counted = self._counted, (exported, dropped)
        return {"exported": exported - before[0], "dropped": dropped - before[1]}
