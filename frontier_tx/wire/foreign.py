"""Other protocols, known by their first bytes: peers that came to the wrong port."""

_BEGINNINGS = (
    (b"\x16\x03", "TLS"),
    (b"PRI * HTTP/2", "HTTP/2"),
    (b"GET ", "HTTP"),
    (b"HEAD ", "HTTP"),
    (b"POST ", "HTTP"),
    (b"PUT ", "HTTP"),
    (b"OPTIONS ", "HTTP"),
    (b"CONNECT ", "HTTP"),
    (b"SSH-", "SSH"),
    (b"\x10", "MQTT"),
    (b"PROXY ", "the PROXY protocol"),
    (b"\r\n\r\n\0\r\nQUIT\n", "the PROXY protocol"),
)


def protocol_of(data: bytes) -> str:
    """The protocol that begins with these bytes, empty where it is none that comes this way now and then."""
    for beginning, name in _BEGINNINGS:
        if data.startswith(beginning):
            return name
    return ""
