"""The messages of the garden."""

from msgspec import Struct

from runtime import Command, Event, Query


class Bed(Struct, frozen=True):
    bed_id: str
    liters: int = 0


class WaterBed(Command[None], actor="beds", key="bed_id"):
    bed_id: str
    liters: int


class WateringBed(Command[None], actor="beds", key="bed_id"):  # finds: name-mood
    bed_id: str


class GetPlan(Query[int], actor="beds", key="bed_id"):
    bed_id: str


class MovePlan(Query[int], actor="beds", key="bed_id"):  # finds: name-mood
    bed_id: str


class BedWatered(Event, actor="beds", key="bed_id"):
    bed_id: str
    liters: int
    note: str = ""
    by: str = ""
    valve: str = ""


class BedDried(Event, actor="beds", key="bed_id"):  # finds: unread-event
    bed_id: str


class BedFrost(Event, actor="beds", key="bed_id"):  # finds: name-mood
    bed_id: str


class BedWeeded(Event, actor="beds", key="bed_id"):  # actorloom: ignore[unread-event] - for programs
    bed_id: str


class BedDug(Event, actor="beds", key="bed_id", naming=False):
    bed_id: str


class BedPlanted(Event, actor="beds", key="bed_id"):  # actorloom: ignore[unread-event]  # finds: unused-ignore
    bed_id: str
    pump_number: int = 0


class Pump(Struct, frozen=True):
    number: int


class StartPump(Command[None], actor="pumps", key="number"):
    number: int


class FlushPump(Command[None], actor="pumps", key="number"):
    number: int


class GetPressure(Query[int], actor="pumps", key="number"):
    number: int


class CountParts(Query[int], actor="pumps", key="number"):
    number: int


class PumpStarted(Event, actor="pumps", key="number"):
    number: int
    season: str


class PumpBroken(Event, actor="pumps", key="number"):
    number: int
    bed_id: str


class Season(Struct, frozen=True):
    season: str


class GetSeason(Query[str], actor="seasons", key="season"):
    season: str


class OpenGate(Command[None], actor="gates", key="gate"):
    gate: str


class Valve(Struct, frozen=True):
    valve: str


class OpenValve(Command[None], actor="valves", key="valve"):
    valve: str
