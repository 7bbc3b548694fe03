"""The verdicts P1 to P4, a file for each: pure functions of the design and the records of a run."""

from thermokernels_app.judges.verdicts.grid_records import COMPUTED_EVERYWHERE, GATES
from thermokernels_app.judges.verdicts.judgement import judge
from thermokernels_app.judges.verdicts.qualification import FILTERS, event_margin, flip_margin, n_qual, qualifying, u_thermo

__all__ = ["COMPUTED_EVERYWHERE", "FILTERS", "GATES", "event_margin", "flip_margin", "judge", "n_qual", "qualifying", "u_thermo"]
