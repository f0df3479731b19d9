"""gRPC and REST on one port, and the small HTTP pages that tell whether a server is well.

From the bottom up: :mod:`status` and :mod:`grpc_framing` (pure), :mod:`contract` (descriptors), :mod:`methods`
(handlers and the rules for calling them), :mod:`query` and :mod:`rest` (REST without a transport), :mod:`http2` with
:mod:`grpc_server` and :mod:`grpc_client`, :mod:`http1`, and :mod:`listener`, which puts them on a port.
"""
