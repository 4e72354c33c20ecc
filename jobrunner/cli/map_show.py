"""`map --dry-run`."""

from jobrunner.cli import out
from jobrunner.cli.map_plan import MapPlan
from jobrunner.errors import JobrunnerError
from jobrunner.mapping.items import Item


async def show(plan: MapPlan) -> int:
    """What would run, a line for each input. Exit 1 if no job can be made of some."""
    code, seq = 0, 0
    with plan.source.opened(counts=False) as (chunks, _):
        async for chunk in chunks:
            for given in chunk:
                seq += 1
                try:
                    plan.recipe.alone(Item(given, seq, plan.recipe.item_id(given.text, seq)))
                    out.emit(out.printable(plan.recipe.shown_for(given, seq)))
                except JobrunnerError as exc:
                    code = 1
                    out.say(f"input {seq}: {out.printable(exc.message)}")
    return code
