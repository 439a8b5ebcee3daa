"""The actors of the garden."""

from runtime import Actor, command, query, react

from .messages import (
    Bed,
    BedDug,
    BedFrost,
    BedPlanted,
    BedWatered,
    BedWeeded,
    CountParts,
    FlushPump,
    GetPlan,
    GetPressure,
    GetSeason,
    MovePlan,
    OpenGate,
    OpenValve,
    Pump,
    PumpBroken,
    PumpStarted,
    Season,
    StartPump,
    Valve,
    WaterBed,
    WateringBed,
)
from .rules import KINDS, Spade, watered


class Digging(Actor[Bed]):
    def dig(self, bed_id: str) -> None:
        self.emit(Spade().dig(bed_id))


class Beds(Digging):
    """Waters beds."""

    name = "beds"

    @command
    async def water_bed(self, message: WaterBed) -> None:
        event = watered(message.bed_id, message.liters)
        self.emit(event)
        self.emit(BedWeeded.of(message))
        await self.command(StartPump(1))
        await self.command(FlushPump(1))  # finds: unhandled-request
        await self.command(OpenGate("north"))

    @command
    async def watering_bed(self, message: WateringBed) -> None:
        self.dig(message.bed_id)
        self.emit(KINDS["dry"](message.bed_id))

    @query
    async def get_plan(self, message: GetPlan) -> int:
        return await self.query(GetPressure(1))  # finds: request-cycle

    @query
    async def move_plan(self, message: MovePlan) -> int:
        return 1

    @react
    async def on_bed_planted(self, event: BedPlanted) -> None: ...

    @react(key="bed_id")
    async def on_pump_broken(self, event: PumpBroken) -> None:  # finds: unheard-event
        ...


class Pumps(Actor[Pump]):
    """Pumps water."""

    name = "pumps"

    @command
    async def start_pump(self, message: StartPump) -> None:
        self.emit(PumpStarted(message.number, season="wet"))

    @query
    async def get_pressure(self, message: GetPressure) -> int:
        return await self.query(GetPlan("north"))

    @query
    async def count_parts(self, message: CountParts) -> int:
        """Walk over the parts of a pump, which are pumps."""
        return 1 + await self.query(CountParts(message.number + 1))

    @react
    async def on_bed_watered(self, event: BedWatered) -> None:  # finds: key-mismatch
        if event.liters and event.valve:
            self.tell(StartPump(len(event.note)))  # finds: unset-field

    @react(key="pump_number")
    async def on_bed_planted(self, event: BedPlanted) -> None:
        self.state = Pump(event.pump_number)


class Seasons(Actor[Season]):
    """Counts seasons."""

    name = "seasons"

    @query
    async def get_season(self, message: GetSeason) -> str:
        return message.season

    @react
    async def on_pump_started(self, event: PumpStarted) -> None:  # finds: key-mismatch
        self.state = Season(event.season)


class Valves(Actor[Valve]):
    """Counts what flows through a valve."""

    name = "valves"

    @command
    async def open_valve(self, message: OpenValve) -> None: ...

    @react
    async def on_bed_watered(self, event: BedWatered) -> None:  # finds: key-mismatch
        ...

    @react(key="valve")
    async def on_valve_watered(self, event: BedWatered) -> None: ...


class Watch(Actor):
    """Looks at beds."""

    name = "watch"

    @react(where={"liters": ["many"]})
    async def on_many_liters(self, event: BedWatered) -> None:  # finds: dead-where
        ...

    @react(where={"by": ["ann"]})  # finds: unset-field
    async def on_water_by_ann(self, event: BedWatered) -> None: ...

    @react(where={"liters": [{"numeric": [">", 0]}]})
    async def on_liters(self, event: BedWatered) -> None: ...

    @react
    async def on_any(self, event: BedWatered | BedFrost | BedDug) -> None: ...
