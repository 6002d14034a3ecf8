"""Runs checks one by one and prints `ok NAME` or `FAILED NAME: why` for each, as run.sh counts them."""

import traceback

CHECKS = []


def check(function):
    """Marks a function as a check; its name says what it shows."""
    CHECKS.append(function)
    return function


def run(make_client, flush):
    """Gives every check a new client of an empty server. `flush` empties it and waits for the answer."""
    failed = 0
    for function in CHECKS:
        name = function.__name__.replace("_", " ")
        try:
            client = make_client()
            flush(client)
            function(client)
            print(f"ok {name}")
        except Exception:  # noqa: BLE001 - whatever goes wrong is a finding
            failed += 1
            print(f"FAILED {name}: {traceback.format_exc()}".replace("\n", "\n  ").rstrip())
    return 1 if failed else 0


def refuses(error, function, *args, **kwargs):
    """Asserts that a call raises this error."""
    try:
        function(*args, **kwargs)
    except error:
        return
    raise AssertionError(f"{function.__name__} did not raise {error.__name__}")
