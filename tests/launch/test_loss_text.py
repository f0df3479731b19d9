"""What users read when a connection ends."""

import pytest
from OpenSSL import SSL
from service_identity import VerificationError
from service_identity.exceptions import DNSMismatch
from service_identity.hazmat import DNS_ID
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from frontier_tx.runtime.loss_text import loss_text, openssl_text

UNKNOWN_CA = SSL.Error([("SSL routines", "", "certificate verify failed")])
MISMATCH = VerificationError(errors=[DNSMismatch(mismatched_id=DNS_ID("example.org"))])


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionDone(), "the peer closed the connection"),
        (ConnectionLost(), "the connection was lost"),
        (ConnectionLost("[Errno 110] timed out"), "the connection was lost: [Errno 110] timed out"),
        (ConnectionAborted(), "Connection was aborted locally using ITCPTransport.abortConnection."),
        (UNKNOWN_CA, "TLS: certificate verify failed"),
        (MISMATCH, "TLS: the certificate is not for example.org"),
        (SSL.ZeroReturnError(), "TLS: ZeroReturnError"),
        (OSError("anything"), "anything"),
    ],
)
def test_one_line_for_each_end(error: Exception, text: str) -> None:
    assert loss_text(Failure(error)) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [(UNKNOWN_CA, "certificate verify failed"), (ValueError("two\nlines"), "two lines"), (ValueError(), "ValueError")],
)
def test_the_most_telling_reason_of_openssl(error: Exception, text: str) -> None:
    assert openssl_text(error) == text
