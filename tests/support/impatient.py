"""`python -m tests.support.impatient`: `moorage run`, in a group that misses members that were killed soon.

MOORAGE_SESSION says after how many seconds, a setting that Moorage itself does not have.
"""

import os
import sys
from functools import partial

from consumer import app as composition
from consumer.cli.main import main

if __name__ == "__main__":
    composition.Options = partial(  # type: ignore
        composition.Options, session_timeout=float(os.environ["MOORAGE_SESSION"])
    )
    sys.argv[1:] = ["run"]
    main()
