"""What every server process needs: start and stop, ports, logs, certificates, turns of the reactor."""
