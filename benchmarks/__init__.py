"""Load, comparison and micro-benchmarks of gateways; `docs/benchmarks.md` says how to run and read them."""
