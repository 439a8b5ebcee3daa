"""Functions and tables that the actors of the garden use: an event may be made far from its `emit`."""

from runtime import Event

from .messages import BedDried, BedDug, BedFrost, BedPlanted, BedWatered

KINDS = {"dry": BedDried, "frost": BedFrost}


def watered(bed_id: str, liters: int) -> BedWatered:
    return BedWatered(bed_id, liters, valve="a")


class Spade:
    def dig(self, bed_id: str) -> Event:
        return BedDug(bed_id) if bed_id else BedPlanted(bed_id, pump_number=1)
