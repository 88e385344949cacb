"""HTTP/1.1 to backends: pooled connections, callbacks instead of tasks.

    client = HttpClient()
    pool = client.pool(origin, "vllm-1", PoolLimits())
    pool.send(transfer)
    transfer.cancel()
    await client.close()

Everything runs on the event loop. `pool` hands requests to connections, `connection` parses one
response at a time, `dial` opens connections, `fetch` is the comfortable way for what is not hot.
"""
