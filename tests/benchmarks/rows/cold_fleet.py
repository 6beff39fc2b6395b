"""Four cold workers on one Redis: how often they download keys and request tokens."""

from __future__ import annotations

from tests.benchmarks.gunicorn_process import gunicorn
from tests.benchmarks.pool_process import PoolProcess, pool_process
from tests.benchmarks.results import OURS, RowResult, count_figure, spreads
from tests.benchmarks.row import Effort, Row
from tests.benchmarks.served_app import Plan
from tests.support.services import Service, ServiceMissing, running_redis

CALLERS = 200


def _measure(effort: Effort) -> RowResult:
    working = [s.name for s in effort.patient_subjects if s.guard is not None and s.token is not None]
    counts: dict[str, list[tuple[int, int]]] = {name: [] for name in working}
    try:
        with running_redis() as redis, pool_process() as pool:
            for _ in range(effort.pick(1, 5)):
                for name in working:
                    counts[name].append(_cold_start(pool, redis, name))
    except ServiceMissing as missing:
        return RowResult("cold-fleet", _TITLE, (), (f"left out: {missing}",))
    downloads = spreads({name: [keys for keys, _ in each] for name, each in counts.items()})
    requests = spreads({name: [tokens for _, tokens in each] for name, each in counts.items()})
    return RowResult(
        "cold-fleet",
        _TITLE,
        (
            count_figure("JWKS downloads", downloads, target=1),
            count_figure("token requests", requests, target=1),
        ),
        (
            f"{CALLERS} callers at once; {OURS}: downloads and requests in {len(counts[OURS])} cold starts: "
            f"{counts[OURS]}",
            *effort.left_out,
        ),
    )


def _cold_start(pool: PoolProcess, redis: Service, name: str) -> tuple[int, int]:
    """Return the downloads and token requests of a fleet that starts with nothing cached."""
    redis.empty()
    token = pool.tokens(1)[0]
    cache = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": redis.url}
    pool.reset()
    # Each subject alone, because some download keys when they are created.
    with gunicorn(Plan(pool.address, token, cache, only=name)) as fleet:
        replies = fleet.get_at_once(f"/work/{name}", token, CALLERS)
        statuses = {reply.status for reply in replies}
        if statuses != {200}:
            raise RuntimeError(f"{name} answered {statuses}:\n{fleet.log}")
    return pool.count("jwks"), pool.count("token")


_TITLE = "four cold workers on one Redis"

ROW = Row("cold-fleet", _measure)
