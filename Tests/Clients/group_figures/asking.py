"""Requests of groups on the connections of a swarm."""

from clients.group_wire import OFFSET_COMMIT, OFFSET_FETCH, fetch_body
from clients.wire import FIND_COORDINATOR, NONE, Writer


async def commit_on(link, body):
    """OffsetCommit 7: the first error, or none."""
    reader = await link.request(OFFSET_COMMIT, 7, body)
    reader.read("ii")
    reader.string()
    return next((error for _, error in reader.array(lambda each: each.read("ih")) if error != NONE), NONE)


async def fetch_on(link, group, topic, partitions):
    """OffsetFetch 5: (error, {partition: offset})."""
    reader = await link.request(OFFSET_FETCH, 5, fetch_body(group, topic, partitions))
    reader.read("ii")
    reader.string()
    rows = reader.array(lambda each: (each.read("iqi"), each.string(), each.read("h")))
    error = next((error for _, _, error in rows if error != NONE), reader.read("h"))
    return error, {index: offset for (index, offset, _), _, _ in rows}


async def find_on(link, group):
    """FindCoordinator 0: (error, broker)."""
    reader = await link.request(FIND_COORDINATOR, 0, Writer().string(group).data())
    return reader.read("h"), reader.read("i")
