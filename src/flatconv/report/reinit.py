"""What ``print`` shows of a correction of initial scales."""

from __future__ import annotations

from flatconv.errors import plain
from flatconv.reinit import Reinit

WORDS = {"scaled": "multiplied", "skipped": "left alone", "right": "right as it is"}


def render_reinit(found: Reinit) -> str:
    """A line a site, the sum first."""
    wanted = [s for s in found.sites if s.done != "right"]
    done = len(found.of("scaled"))
    sites = "1 site starts" if len(wanted) == 1 else f"{len(wanted)} sites start"
    lines = [f"{found.model}.{found.method}: {sites} too small or cannot be judged; {done} corrected."]
    for site in found.sites:
        factor = f" by {site.factor:.3f}" if site.done == "scaled" else ""
        bias = ", bias too" if site.bias else ""
        lines.append(f"  {site.name} ({site.op}): {WORDS[site.done]}{factor}{bias}: {site.reason}")
    lines += [note[0].upper() + note[1:] + "." for note in found.notes]
    return "\n".join(plain(line) for line in lines)
