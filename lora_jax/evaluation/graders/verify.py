"""Compare expressions with math-verify: a program, run by `verifier`, that reads and writes lines.

A line in holds a JSON list of two texts, a line out `true` or `false`. The argument is the time for a
comparison in seconds of the processor's, so that no verdict depends on what else the machine does.
"""

import contextlib
import json
import logging
import resource
import signal
import sys

_LAST = 3  # times that time; long integer arithmetic cannot be interrupted, so it ends the program
_BYTES = 4 << 30


class _OutOfTimeError(BaseException):
    """Passes by what the library catches."""


def _out_of_time(number, frame):
    del number, frame
    raise _OutOfTimeError


def _equal(found: str, expected: str) -> bool:
    from math_verify import parse, verify

    # The library's own time-outs would run on the wall's clock.
    found, expected = (parse(text, parsing_timeout=None) for text in (found, expected))
    return verify(expected, found, timeout_seconds=None)


def _main() -> None:
    seconds = float(sys.argv[1])
    answers, sys.stdout = sys.stdout, sys.stderr
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    signal.signal(signal.SIGPROF, _out_of_time)
    logging.disable()  # the library logs each answer that it cannot read
    _equal("$1$", "$1$")  # imports it
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        equal = False
        with contextlib.suppress(Exception, _OutOfTimeError):
            signal.setitimer(signal.ITIMER_VIRTUAL, _LAST * seconds)
            signal.setitimer(signal.ITIMER_PROF, seconds)
            equal = _equal(*json.loads(line))
            signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        print(json.dumps(bool(equal)), file=answers, flush=True)


if __name__ == "__main__":
    _main()
